//! Pictures of prompts, small and inside the page.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rlvr_policies::vision::resample::{Filter, resize};
use rlvr_policies::vision::{decode, encode_png};
use rlvr_rewards::TaskImage;
use serde::Serialize;

use crate::config::{RunConfig, StageConfig};
use crate::data::TaskSource;
use crate::files::picture::{bytes_of, named};

/// Longest side of a picture on the page, in pixels.
const SIDE: usize = 160;
/// A picture whose sides are below this is shown enlarged.
const LEGIBLE: usize = 64;
/// Largest file that is shown as it is, in bytes.
const SMALL_FILE: usize = 4096;
/// Most pictures of a prompt.
const OF_PROMPT: usize = 8;
/// Most characters of all pictures of a page.
const OF_PAGE: usize = 4 << 20;

const GONE: &str = "its data is gone";

/// A picture as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Shown {
    /// Its path, or that it was given as data.
    name: String,
    /// A `data:` URI; empty where it cannot be shown.
    uri: String,
    /// Why it cannot be shown; else empty.
    note: String,
    width: usize,
    height: usize,
}

/// What finds and draws pictures.
pub(super) struct Pictures {
    /// The run's config, where this version reads it.
    config: Option<RunConfig>,
    sources: HashMap<String, Option<TaskSource>>,
    drawn: HashMap<TaskImage, Shown>,
    left: usize,
}

impl Pictures {
    pub(super) fn new(text: &str, path: &Path) -> Self {
        let config = RunConfig::parse(text, path, &[]).ok();
        Self { config, sources: HashMap::new(), drawn: HashMap::new(), left: OF_PAGE }
    }

    /// The pictures of a task that records call `names`, of a stage.
    pub(super) fn of(&mut self, stage: &str, id: &str, names: &[String]) -> Vec<Shown> {
        let mut shown = Vec::new();
        for (i, name) in names.iter().take(OF_PROMPT).enumerate() {
            let image = match name.strip_prefix("data:") {
                None => Ok(TaskImage::Path(PathBuf::from(name))),
                Some(_) => self.given(stage, id, i),
            };
            let name = if name.starts_with("data:") { "given as data" } else { name.as_str() };
            shown.push(match image {
                Ok(image) => self.draw(name, &image),
                Err(note) => Shown::note(name, note.into()),
            });
        }
        if names.len() > OF_PROMPT {
            let more = format!("{} more pictures are not shown", names.len() - OF_PROMPT);
            shown.push(Shown::note("…", more));
        }
        shown
    }

    /// A picture that is no file: that of the task, which the stage's data still has. Records do not say of which source a
    /// task is, so that it is known only where one source has its id and none is missing; else why it is not.
    fn given(&mut self, stage: &str, id: &str, place: usize) -> Result<TaskImage, &'static str> {
        let config = self.config.as_ref().ok_or(GONE)?;
        let stage = config.stage.iter().find(|config| config.name() == stage).ok_or(GONE)?;
        let names: Vec<&String> = match stage {
            StageConfig::Sft(sft) => sft.data.names().collect(),
            StageConfig::Grpo(grpo) => grpo.data.iter().flat_map(|mix| mix.names()).collect(),
        };
        let mut found = None;
        let mut missing = false;
        for name in names {
            let source = self
                .sources
                .entry(name.clone())
                .or_insert_with(|| TaskSource::open(name, config.data.get(name)?, config.seed).ok());
            let Some(source) = source else {
                missing = true;
                continue;
            };
            let tasks = (0..source.len()).map(|i| source.task(i)).filter(|task| task.id == id);
            for image in tasks.filter_map(|task| task.images.get(place)) {
                if matches!(image, TaskImage::Bytes(_)) && found.replace(image.clone()).is_some() {
                    return Err(
                        "its id stands more than once in the stage's data: it is not known which it is",
                    );
                }
            }
        }
        match found {
            Some(_) if missing => Err("some of the stage's data is gone: it is not known which it is"),
            Some(image) => Ok(image),
            None => Err(GONE),
        }
    }

    fn draw(&mut self, name: &str, image: &TaskImage) -> Shown {
        let shown = match self.drawn.get(image) {
            Some(shown) => shown.clone(),
            None => {
                let shown = drawn(name, image).unwrap_or_else(|note| Shown::note(name, note));
                self.drawn.insert(image.clone(), shown.clone());
                shown
            }
        };
        if shown.uri.len() > self.left {
            return Shown::note(name, "left out: the page has enough pictures".into());
        }
        self.left -= shown.uri.len();
        shown
    }
}

impl Shown {
    fn note(name: &str, note: String) -> Self {
        Self { name: name.to_owned(), uri: String::new(), note, width: 0, height: 0 }
    }
}

fn drawn(name: &str, image: &TaskImage) -> Result<Shown, String> {
    let bytes = bytes_of(image)?;
    let picture = decode(&bytes).map_err(|e| named(image, &e))?;
    let longest = picture.width.max(picture.height);
    let (kind, bytes, width, height) = match kind(&bytes) {
        Some(kind) if longest <= SIDE && bytes.len() <= SMALL_FILE => {
            (kind, bytes.into_owned(), picture.width, picture.height)
        }
        _ => {
            let side = |side: usize| if longest > SIDE { (side * SIDE / longest).max(1) } else { side };
            let (width, height) = (side(picture.width), side(picture.height));
            let small = resize(&picture, width, height, Filter::Bicubic);
            ("png", encode_png(width, height, &small.pixels), width, height)
        }
    };
    let data = String::from(TaskImage::Bytes(bytes.into()));
    let data = data.split_once(',').map_or("", |(_, data)| data);
    let times = (LEGIBLE / width.max(height)).max(1);
    Ok(Shown {
        name: name.to_owned(),
        uri: format!("data:image/{kind};base64,{data}"),
        note: String::new(),
        width: width * times,
        height: height * times,
    })
}

/// What browsers call a format that they show.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    let begins = |with: &[u8]| bytes.starts_with(with);
    match () {
        () if begins(b"\x89PNG") => Some("png"),
        () if begins(b"\xff\xd8\xff") => Some("jpeg"),
        () if begins(b"GIF8") => Some("gif"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_small_few_and_named_when_gone() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            dir.path().join(name).display().to_string()
        };
        let noise: Vec<u8> = (0..900 * 300 * 3).map(|i: usize| (i * 7919 % 251) as u8).collect();
        let large = file("large.png", &encode_png(900, 300, &noise));
        let tiny = file("tiny.png", &encode_png(16, 8, &[7; 16 * 8 * 3]));
        let broken = file("broken.png", b"\x89PNG none");
        let gone = dir.path().join("gone.png").display().to_string();
        let mut pictures = Pictures::new("", Path::new("config.toml"));
        let names = [large.clone(), tiny, broken, gone, "data:00ff".to_owned()];
        let shown = pictures.of("grpo", "1", &names);
        assert_eq!((shown[0].width, shown[0].height), (160, 53));
        assert!(shown[0].uri.starts_with("data:image/png;base64,iVBOR") && shown[0].uri.len() < 40_000);
        // Enlarged, its bytes as they are.
        assert_eq!((shown[1].width, shown[1].height), (64, 32));
        for (shown, part) in shown[2..].iter().zip(["cannot be read", "gone.png", "its data is gone"]) {
            assert!(shown.uri.is_empty() && shown.note.contains(part), "{shown:?}");
        }
        let many = vec![large.clone(); 20];
        let shown = pictures.of("grpo", "1", &many);
        assert_eq!(shown.len(), OF_PROMPT + 1);
        assert_eq!(shown[OF_PROMPT].note, "12 more pictures are not shown");
        // The page has an end.
        let all: usize = (0..50).flat_map(|_| pictures.of("grpo", "1", &many)).map(|s| s.uri.len()).sum();
        assert!(all <= OF_PAGE, "{all}");
        assert!(pictures.of("grpo", "1", &many)[0].note.contains("enough pictures"));
    }

    #[test]
    fn what_was_given_as_data_is_shown_only_where_its_row_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = "name = \"r\"\n[policy]\npath = \"p\"\n[rewards]\nkind = \"yes_no\"\n[[stage]]\nkind = \"grpo\"\n\
                          data = { a = 1.0, b = 1.0 }\nsteps = 1\n"
            .to_owned();
        for (source, shade) in [("a", 1), ("b", 200)] {
            let row = |id: &str| {
                let image = String::from(TaskImage::Bytes(encode_png(8, 8, &[shade; 8 * 8 * 3]).into()));
                serde_json::json!({"id": id, "image": image, "answer": "yes"}).to_string()
            };
            let path = dir.path().join(format!("{source}.jsonl"));
            std::fs::write(&path, format!("{}\n{}\n", row("both"), row(&format!("only-{source}")))).unwrap();
            config.push_str(&format!(
                "[data.{source}]\nkind = \"jsonl\"\npath = {path:?}\nprompt = \"Yes?\"\n\
                 images = \"{{{{ image }}}}\"\nreference.answer = \"{{{{ answer }}}}\"\n"
            ));
        }
        let path = Path::new("config.toml");
        let stage = RunConfig::parse(&config, path, &[]).unwrap().stage[0].name().to_owned();
        let shown =
            |id: &str| Pictures::new(&config, path).of(&stage, id, &["data:00ff".to_owned()]).remove(0);
        let (a, b) = (shown("only-a"), shown("only-b"));
        assert!(a.uri.starts_with("data:image/png") && b.uri.starts_with("data:image/png") && a.uri != b.uri);
        let both = shown("both");
        assert!(both.uri.is_empty() && both.note.contains("not known which"), "{both:?}");
        std::fs::remove_file(dir.path().join("a.jsonl")).unwrap();
        let left = shown("both");
        assert!(left.uri.is_empty() && left.note.contains("not known which"), "{left:?}");
    }
}
