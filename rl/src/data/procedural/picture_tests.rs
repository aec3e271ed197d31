//! What holds for tasks with pictures: what is asked can be read off the picture, and hardly without it.

use std::collections::{HashMap, HashSet};

use super::font::{GLYPH, glyph};
use crate::data::{DataConfig, TaskSource};
use rlvr_policies::vision::{Rgb, decode};
use rlvr_rewards::{Response, RewardConfig, Task, TaskImage, Verdict, score_one};

fn open(kind: &str, more: &str, seed: u64) -> TaskSource {
    let config: DataConfig = toml::from_str(&format!("kind = {kind:?}\n{more}")).unwrap();
    TaskSource::open("t", &config, seed).unwrap()
}

fn tasks(source: &TaskSource) -> impl Iterator<Item = &Task> {
    (0..source.len()).map(|i| source.task(i))
}

fn picture(task: &Task) -> Rgb {
    let [TaskImage::Bytes(bytes)] = &task.images[..] else { panic!("{:?}", task.images) };
    decode(bytes).unwrap()
}

fn question(task: &Task) -> &str {
    task.prompt[0].content.strip_prefix("<image>").unwrap()
}

fn answers(task: &Task) -> Vec<&str> {
    match &task.reference["answer"] {
        serde_json::Value::Array(all) => all.iter().map(|a| a.as_str().unwrap()).collect(),
        one => vec![one.as_str().unwrap()],
    }
}

/// The pixels of every colour but the ground's.
fn colours(picture: &Rgb) -> HashMap<&'static str, Vec<(usize, usize)>> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for (i, pixel) in picture.pixels.chunks(3).enumerate() {
        let name = match pixel {
            [220, 40, 40] => "red",
            [40, 170, 60] => "green",
            [50, 80, 220] => "blue",
            [230, 210, 40] => "yellow",
            [150, 50, 180] => "purple",
            [60, 200, 210] => "cyan",
            _ => continue,
        };
        found.entry(name).or_default().push((i % picture.width, i / picture.width));
    }
    found
}

/// The shape of these pixels: how much of the square around them they fill.
fn shape(pixels: &[(usize, usize)]) -> &'static str {
    let side = |of: fn(&(usize, usize)) -> usize| {
        let all = || pixels.iter().map(of);
        (all().max().unwrap() - all().min().unwrap() + 1) as f64
    };
    let share = pixels.len() as f64 / (side(|p| p.0) * side(|p| p.1));
    match share {
        s if s > 0.95 => "square",
        s if s > 0.68 => "circle",
        _ => "triangle",
    }
}

#[test]
fn what_is_asked_about_shapes_is_seen_in_the_picture() {
    for more in ["max_objects = 4", "max_objects = 6\ncolours = 6"] {
        let source = open("shapes", &format!("{more}\nsize = 96\nnoise = 0\ntasks = 200"), 5);
        let mut asked = HashSet::new();
        for task in tasks(&source) {
            let (picture, question) = (picture(task), question(task));
            let found = colours(&picture);
            let words: Vec<&str> = question.trim_end_matches('?').split(' ').collect();
            let third = |at: f64, grid: f64, names: [&'static str; 3]| {
                let cell = (at / 96.0 * grid) as usize;
                if grid > 2.0 { names[cell] } else { names[2 * cell] }
            };
            let grid = if more.contains('6') { 3.0 } else { 2.0 };
            let centre = |colour: &str, of: fn(&(usize, usize)) -> usize| {
                let all = || found[colour].iter().map(of);
                (all().min().unwrap() + all().max().unwrap()) as f64 / 2.0
            };
            let answer = match words[..2] {
                ["What", "colour"] => {
                    let is = |(_, pixels): &(&&str, &Vec<_>)| shape(pixels) == words[4];
                    let all: Vec<&str> = found.iter().filter(is).map(|(name, _)| *name).collect();
                    assert_eq!(all.len(), 1, "{question}");
                    all[0].to_owned()
                }
                ["Which", "shape"] => shape(&found[words[3]]).to_owned(),
                ["How", "many"] => found.len().to_string(),
                ["Is", "there"] => {
                    let there = found.get(words[3]).is_some_and(|pixels| shape(pixels) == words[4]);
                    (if there { "yes" } else { "no" }).to_owned()
                }
                _ if question.contains("top") => {
                    third(centre(words[2], |p| p.1), grid, ["top", "middle", "bottom"]).to_owned()
                }
                _ => third(centre(words[2], |p| p.0), grid, ["left", "middle", "right"]).to_owned(),
            };
            assert!(answers(task).contains(&answer.as_str()), "{question} {answer} {:?}", answers(task));
            asked.insert(words[..2].join(" "));
        }
        assert_eq!(asked.len(), 5, "{asked:?}");
    }
}

#[test]
fn captions_and_letters_say_the_same_shorter_or_longer() {
    let source = open("shapes", "questions = [\"caption\"]\nnoise = 0\ntasks = 40\nsize = 96", 1);
    for (i, task) in tasks(&source).enumerate() {
        let (picture, caption) = (picture(task), source.example(i).unwrap().completion);
        let found = colours(&picture);
        assert_eq!(caption.split(", ").count(), found.len(), "{caption}");
        let whole: RewardConfig = toml::from_str("kind = \"exact\"\nwhole = true").unwrap();
        let verdict =
            |text: &str| score_one(&*whole.clone().build().unwrap(), task, Response::new(text)).verdict;
        assert_eq!(verdict(&caption), Verdict::Correct, "{caption}");
        assert_ne!(verdict(&caption[..caption.len() - 3]), Verdict::Correct, "{caption}");
        for (colour, pixels) in found {
            assert!(caption.contains(&format!("a {colour} {} at the ", shape(&pixels))), "{caption}");
        }
    }
    let letters = open("shapes", "letters = true\ntasks = 100", 1);
    for (i, task) in tasks(&letters).enumerate() {
        let said = letters.example(i).unwrap().completion;
        let all = answers(task);
        assert!(
            said.len() == 1 && all.last().unwrap().starts_with(&said) || said == all[0],
            "{said} {all:?}"
        );
    }
}

/// The character whose dots are where the picture is dark (or light, with `light`), at this place.
fn read(picture: &Rgb, (left, top): (usize, usize), scale: usize, light: bool) -> Option<char> {
    let ink = |x: usize, y: usize| {
        let (x, y) = (left + x * scale + scale / 2, top + y * scale + scale / 2);
        x < picture.width
            && y < picture.height
            && (picture.pixels[(y * picture.width + x) * 3] > 128) == light
    };
    let row = |y: usize| (0..GLYPH.0).fold(0, |bits, x| bits << 1 | u8::from(ink(x, y)));
    let rows: Vec<u8> = (0..GLYPH.1).map(row).collect();
    "0123456789ABCDEGHKLNRUY.- ".chars().find(|c| glyph(*c)[..] == rows)
}

#[test]
fn numbers_are_read_off_the_picture() {
    let source = open("digits", "max_digits = 3\nnoise = 0\ntasks = 200", 2);
    for task in tasks(&source) {
        let (picture, number) = (picture(task), answers(task)[0]);
        let width = number.len() * (GLYPH.0 + 1) - 1;
        let mut places = (1..=6).flat_map(|scale| {
            let last = move |dots: usize| (picture.width + 1).saturating_sub(dots * scale);
            (0..last(GLYPH.1)).flat_map(move |y| (0..last(width)).map(move |x| (x, y, scale)))
        });
        let is_there = |(x, y, scale): (usize, usize, usize)| {
            [true, false].into_iter().any(|light| {
                let at = |i: usize| (x + i * (GLYPH.0 + 1) * scale, y);
                number.chars().enumerate().all(|(i, c)| read(&picture, at(i), scale, light) == Some(c))
            })
        };
        assert!(places.any(is_there), "{number}");
    }
}

/// The lines of a panel, found by the word in its corner.
fn panel(picture: &Rgb) -> Vec<Vec<String>> {
    let at = |(x, y): (usize, usize), i: usize| read(picture, (x + i * (GLYPH.0 + 1), y), 1, false);
    let corner = (0..picture.height)
        .flat_map(|y| (0..picture.width).map(move |x| (x, y)))
        .find(|corner| (0..3).map(|i| at(*corner, i)).eq("DAY".chars().map(Some)))
        .unwrap();
    let line = |i: usize| -> String {
        (0..40).map_while(|column| at((corner.0, corner.1 + i * (GLYPH.1 + 3)), column)).collect()
    };
    let words = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    (0..12).map(|i| words(line(i))).take_while(|words| !words.is_empty()).collect()
}

#[test]
fn what_is_asked_about_panels_stands_in_the_picture() {
    let source = open("lab_panel", "days = 3\nsize = 200\nnoise = 0\ntasks = 100", 3);
    for task in tasks(&source) {
        let (lines, question) = (panel(&picture(task)), question(task));
        let number = |text: &str| text.parse::<f64>().unwrap();
        let short = question.split(['(', ')']).nth(1).unwrap();
        let row = lines.iter().find(|line| line[0] == short).unwrap();
        let values: Vec<f64> = row[1..4].iter().map(|value| number(value)).collect();
        let day = || {
            let rest = question.split("day ").nth(1).unwrap();
            rest[..1].parse::<usize>().unwrap()
        };
        let order = |sign: f64| {
            let best = (0..3).max_by(|a, b| (sign * values[*a]).total_cmp(&(sign * values[*b]))).unwrap();
            (best + 1).to_string()
        };
        let answer = match question {
            q if q.contains("highest") => order(1.0),
            q if q.contains("lowest") => order(-1.0),
            q if q.contains("within") => {
                let (low, high) = row[4].split_once('-').unwrap();
                let within = (number(low)..=number(high)).contains(&values[day() - 1]);
                (if within { "yes" } else { "no" }).to_owned()
            }
            _ => row[day()].clone(),
        };
        assert_eq!(answers(task)[0], answer, "{question} {lines:?}");
    }
}

/// How many tasks with this beginning of the question the best answer to each question would get right.
fn by_question<'a>(source: &'a TaskSource, begins: &str) -> (f64, usize) {
    let mut counts: HashMap<&'a str, HashMap<&'a str, usize>> = HashMap::new();
    for task in tasks(source).filter(|task| question(task).starts_with(begins)) {
        *counts.entry(question(task)).or_default().entry(answers(task)[0]).or_default() += 1;
    }
    let all: usize = counts.values().flat_map(HashMap::values).sum();
    let best: usize = counts.values().filter_map(|answers| answers.values().max()).sum();
    (best as f64 / all as f64, all)
}

#[test]
fn the_question_alone_says_next_to_nothing_about_the_answer() {
    let shapes = open("shapes", "size = 16\nnoise = 0\ntasks = 6000", 1);
    let panels = open("lab_panel", "analytes = 1\nsize = 152\nnoise = 0\ntasks = 3000", 1);
    let digits = open("digits", "max_digits = 1\nnoise = 0\ntasks = 2000", 1);
    for (source, begins, chance) in [
        (&shapes, "What colour", 1.0 / 4.0),
        (&shapes, "Which shape", 1.0 / 3.0),
        (&shapes, "How many", 1.0 / 4.0),
        (&shapes, "Is there", 1.0 / 2.0),
        (&shapes, "Is the ", 1.0 / 2.0),
        (&panels, "On which day", 1.0 / 2.0),
        (&panels, "Is the ", 1.0 / 2.0),
        (&panels, "What is", 1.0 / 40.0),
        (&digits, "", 1.0 / 10.0),
    ] {
        let (best, count) = by_question(source, begins);
        assert!(count > 400, "{begins}: {count}");
        // The best of several answers to a question that is asked some hundred times is above chance by chance.
        assert!(best < chance + 0.06, "{begins}: {best} of {count}");
    }
    let mut constant: HashMap<&str, usize> = HashMap::new();
    tasks(&shapes).for_each(|task| *constant.entry(answers(task)[0]).or_default() += 1);
    let most = constant.into_values().max().unwrap() as f64 / shapes.len() as f64;
    assert!(most < 0.15, "{most}");
}

#[test]
fn grey_pictures_change_nothing_else() {
    for kind in ["shapes", "digits", "lab_panel"] {
        let (real, blank) = (open(kind, "tasks = 30", 4), open(kind, "tasks = 30\nblank = true", 4));
        for i in 0..real.len() {
            let (a, b) = (real.task(i), blank.task(i));
            assert_eq!((&a.id, &a.prompt, &a.reference), (&b.id, &b.prompt, &b.reference));
            assert_eq!(real.key(i), blank.key(i));
            let (seen, grey) = (picture(a), picture(b));
            assert_eq!((seen.width, seen.height), (grey.width, grey.height));
            assert!(grey.pixels.iter().all(|v| *v == 128) && seen.pixels.iter().any(|v| *v != 128));
        }
    }
}

#[test]
fn a_picture_is_on_one_side_of_the_split_whatever_is_asked() {
    for (kind, more) in [("shapes", "max_objects = 2"), ("lab_panel", ""), ("digits", "")] {
        let pictures = |split: &str, seed| -> HashSet<TaskImage> {
            let more = format!("{more}\nnoise = 0\nsplit = {split:?}\nheldout_frac = 0.5\ntasks = 800");
            let source = open(kind, &more, seed);
            tasks(&source).map(|task| task.images[0].clone()).collect()
        };
        let (train, heldout) = (pictures("train", 1), pictures("heldout", 2));
        assert!(train.len() > 300 && heldout.len() > 300 && train.is_disjoint(&heldout), "{kind}");
    }
    // A number of two digits is not trained on wherever it stands.
    let numbers = |split: &str| -> HashSet<String> {
        let source = open("digits", &format!("min_digits = 2\nsplit = {split:?}\ntasks = 500"), 1);
        tasks(&source).map(|task| answers(task)[0].to_owned()).collect()
    };
    let (train, heldout) = (numbers("train"), numbers("heldout"));
    assert!(heldout.len() > 4 && train.is_disjoint(&heldout), "{heldout:?}");
}

#[test]
fn a_place_for_the_picture_may_stand_in_the_prompt() {
    let said = |prompt: &str| {
        let config: DataConfig =
            toml::from_str(&format!("kind = \"digits\"\ntasks = 1\nprompt = {prompt:?}")).unwrap();
        TaskSource::open("t", &config, 1).map(|source| source.task(0).prompt[0].content.clone())
    };
    assert_eq!(said("Number: <image> =").unwrap(), "Number: <image> =");
    assert_eq!(said("{{ digits }}?").unwrap().len(), "<image>2?".len());
    let message = said("<image><image>").unwrap_err().to_string();
    assert!(message.contains("has 2 places <image>, the row 1 images"), "{message}");
}
