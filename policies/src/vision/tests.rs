use super::resample::{Filter, resize};
use super::*;
use crate::config::{Vision, VisionFamily};
use crate::{golden, golden_json};
use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn number(case: &Value, key: &str) -> usize {
    case[key].as_u64().unwrap() as usize
}

fn rgb(file: &SafeTensors<'_>, name: &str) -> Rgb {
    let tensor = file.tensor(name).unwrap();
    let shape = tensor.shape();
    Rgb { height: shape[0], width: shape[1], pixels: tensor.data().to_vec() }
}

const MODELS: [&str; 4] = ["tiny-qwen2_5_vl", "tiny-smolvlm", "tiny-qwen2_vl", "tiny-qwen3_vl"];

fn processor(model: &str) -> (Processor, Vision) {
    let folder = golden("vision").join(model);
    let root = golden_json(&format!("vision/{model}/config.json"));
    let path = folder.join("preprocessor_config.json");
    let vision = Vision::read(root.as_object().unwrap(), &path).unwrap().unwrap().0;
    let config = golden_json(&format!("vision/{model}/preprocessor_config.json"));
    (Processor::read(config.as_object().unwrap(), &path, &vision).unwrap(), vision)
}

#[test]
fn resized_pictures_are_pillows_bits() {
    let bytes = std::fs::read(golden("vision/resize.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let cases = golden_json("vision/preprocessing.json");
    let mut first = 0;
    for case in cases["resize"].as_array().unwrap() {
        let filter = if case["filter"] == "lanczos" { Filter::Lanczos } else { Filter::Bicubic };
        let name = case["name"].as_str().unwrap();
        let got = resize(&rgb(&file, name), number(case, "out_width"), number(case, "out_height"), filter);
        assert_eq!(digest(&got.pixels), case["sha256"].as_str().unwrap(), "{case}");
        first += usize::from(case["vertical_pass_first"] == true && case["both_orders_equal"] == false);
    }
    assert!(first > 3, "the order of the passes is seen");
}

#[test]
fn files_decode_as_pillow_reads_them() {
    let bytes = std::fs::read(golden("vision/decode.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for case in golden_json("vision/preprocessing.json")["decode"].as_array().unwrap() {
        let (name, path) = (case["name"].as_str().unwrap(), case["file"].as_str().unwrap());
        let bytes = std::fs::read(golden("vision").join(path)).unwrap();
        let (got, want) = (decode(&bytes).unwrap(), rgb(&file, name));
        assert_eq!((got.width, got.height), (want.width, want.height), "{name}");
        assert_eq!(super::image::size(&bytes).unwrap(), (want.width, want.height), "{name}");
        if name == "grey16" {
            // Pillow saturates; here the range is scaled.
            assert!(got.pixels.iter().any(|v| *v < 250), "{name}");
            continue;
        }
        let off = got.pixels.iter().zip(&want.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(off <= if case["lossy"] == true { 4 } else { 0 }, "{name}: {off}");
    }
}

#[test]
fn a_written_png_reads_back_as_it_was() {
    let mut noise = 1u32;
    for (width, height) in [(1, 1), (3, 5), (64, 33)] {
        let flat = vec![128; width * height * 3];
        let ramp: Vec<u8> = (0..width * height * 3).map(|i| (i / 3 % width * 4) as u8).collect();
        let mut any = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        };
        let noisy: Vec<u8> = (0..width * height * 3).map(|_| any()).collect();
        for pixels in [flat, ramp, noisy] {
            let file = encode_png(width, height, &pixels);
            assert_eq!(decode(&file).unwrap(), Rgb { width, height, pixels });
        }
    }
    assert!(encode_png(512, 512, &[9; 512 * 512 * 3]).len() < 4_000, "it is packed");
    // The checksums, which our decoder does not look at, are those of the standard's polynomial.
    let file = encode_png(1, 1, &[0, 0, 0]);
    assert_eq!(file[29..33], [0x90, 0x77, 0x53, 0xde]);
    assert!(file.ends_with(b"IEND\xae\x42\x60\x82"));
}

#[test]
fn damaged_files_are_errors_and_never_panic() {
    let mut errors = 0;
    for case in golden_json("vision/preprocessing.json")["decode"].as_array().unwrap() {
        let bytes = std::fs::read(golden("vision").join(case["file"].as_str().unwrap())).unwrap();
        let mut state = 7u32;
        for i in 0..60 {
            let mut broken = bytes.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = state as usize % broken.len();
                broken[at] ^= (state >> 24) as u8;
            }
            if i % 3 == 0 {
                broken.truncate(broken.len() * (i + 1) / 61);
            }
            errors += usize::from(decode(&broken).is_err());
        }
    }
    assert!(errors > 100, "{errors}");
    for nothing in [&b""[..], b"GIF89a", b"\x89PNG\r\n\x1a\n"] {
        assert!(decode(nothing).is_err());
    }
    let mut huge = std::fs::read(golden("vision/decode/rgb.png")).unwrap();
    huge[16..20].copy_from_slice(&20_000u32.to_be_bytes());
    assert!(matches!(decode(&huge), Err(ImageError::TooLarge { width: 20_000, .. })));
}

#[test]
fn sizes_and_tiles_are_those_of_transformers() {
    let cases = golden_json("vision/preprocessing.json");
    for case in cases["smart_resize"].as_array().unwrap() {
        let of = |key| number(case, key);
        let got = processor::smart_resize(
            of("width"),
            of("height"),
            of("factor"),
            of("min_pixels"),
            of("max_pixels"),
        );
        match case["resized"].as_array() {
            Some(want) => {
                let (w, h) = got.unwrap();
                assert_eq!(
                    [h as u64, w as u64],
                    [want[0].as_u64().unwrap(), want[1].as_u64().unwrap()],
                    "{case}"
                );
            }
            None => assert!(got.is_err(), "{case}"),
        }
    }
    for case in cases["tiles"].as_array().unwrap() {
        let of = |key| number(case, key);
        let (columns, rows) =
            processor::tiles(of("width"), of("height"), of("longest_edge"), of("tile"), true);
        // A picture of one tile is that, and has no others.
        let all = if rows > 0 { rows * columns + 1 } else { 0 };
        assert_eq!((rows, columns, all), (of("rows"), of("cols"), of("tiles")), "{case}");
    }
}

/// The pixel values of a picture in transformers' order of patches.
fn as_transformers(picture: &Picture, processor: &Processor, vision: &Vision) -> Vec<u8> {
    if vision.family == VisionFamily::Smol {
        let planes = |part: &Rgb| {
            (0..3)
                .flat_map(|c| part.pixels.iter().skip(c).step_by(3).copied().collect::<Vec<_>>())
                .collect::<Vec<u8>>()
        };
        return picture.parts.iter().flat_map(planes).collect();
    }
    let unwindowed = Vision { window: None, ..vision.clone() };
    let plan = Plan::new(picture, &unwindowed);
    plan.values(picture, processor, vision).iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn pixel_values_and_tokens_are_those_of_transformers() {
    for model in MODELS {
        let (processor, vision) = processor(model);
        let case = golden_json(&format!("vision/{model}/golden.json"));
        for image in case["preprocessing"].as_array().unwrap() {
            let name = image["image"].as_str().unwrap();
            let bytes = std::fs::read(golden("vision").join(model).join("images").join(name)).unwrap();
            let (mut processor, mut key) = (processor.clone(), name.to_owned());
            if image["do_image_splitting"] == false
                && let Sizes::Tiles { split, .. } = &mut processor.sizes
            {
                *split = false;
                key.push_str(":whole");
            }
            let picture = processor.open(&bytes).unwrap();
            let tokens = number(image, "image_tokens");
            assert_eq!(processor.tokens_of_file(&bytes).unwrap(), tokens, "{model} {key}");
            assert_eq!(Plan::new(&picture, &vision).tokens(), tokens, "{model} {key}");
            let suffix = if vision.family == VisionFamily::Smol { ".pixel_u8" } else { ".pixel_values" };
            let want = case["pixels"][key.clone() + suffix].as_str().unwrap();
            assert_eq!(digest(&as_transformers(&picture, &processor, &vision)), want, "{model} {key}");
        }
    }
}

#[test]
fn shapes_that_are_not_taken_are_named() {
    let (processor, _) = processor("tiny-qwen2_5_vl");
    let message = processor.tokens(1000, 4).unwrap_err().to_string();
    assert!(message.contains("1000x4") && message.contains("200 times"), "{message}");
    // Fewer pixels by a setting, never more than that.
    let small = processor.with_max_pixels(56 * 56);
    assert_eq!(small.tokens(500, 500).unwrap(), 4);
}

#[test]
fn a_jpeg_that_ends_early_is_refused() {
    for name in ["jpeg_420.jpg", "jpeg_444.jpg", "jpeg_cmyk.jpg", "jpeg_grey.jpg", "jpeg_turned.jpg"] {
        let bytes = std::fs::read(golden("vision/decode").join(name)).unwrap();
        decode(&bytes).unwrap();
        for part in [2, 3, 10] {
            let found = decode(&bytes[..bytes.len() - bytes.len() / part]);
            assert!(found.is_err(), "{name} without the last {part}th");
        }
        // What follows the end is no part of the picture.
        decode(&[&bytes[..], b"behind it"].concat()).unwrap();
    }
}
