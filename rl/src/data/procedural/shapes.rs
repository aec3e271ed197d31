//! Coloured shapes in a picture, with a question about them.

use rlvr_policies::vision::Rgb;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::canvas::{Canvas, MAX_NOISE};
use super::{Dice, Draw, Generator, check_between, check_range, generator};
use crate::checks::Checks;
use crate::random;

generator! {
    /// Seeing coloured shapes: the colour of a shape, the shape of a colour, how many there are, whether there is such a one,
    /// where it is, or all of it in a sentence. Colours differ within a picture. An arrangement of two objects or more is on one
    /// side of the split wherever exactly they are, a picture of one object whatever is asked about it.
    "shapes" => ShapesConfig judged by "exact" {
        /// What is asked, some of `colour`, `shape`, `count`, `exists`, `position` and `caption` (a sentence that describes the
        /// picture, for supervised stages; `exact` judges it with `whole = true`). Default all but `caption`.
        questions: Vec<ShapesQuestion> = vec![
            ShapesQuestion::Colour,
            ShapesQuestion::Shape,
            ShapesQuestion::Count,
            ShapesQuestion::Exists,
            ShapesQuestion::Position,
        ],
        /// Fewest objects, 1 to 6. Default 1.
        min_objects: usize = 1,
        /// Most objects; one has the whole picture, up to four stand in two rows, more in three. Default 4.
        max_objects: usize = 4,
        /// Colours that occur, 2 to 6. Default 4.
        colours: usize = 4,
        /// Pixels a side, 8 to 512, eight a cell at least. Default 48.
        size: usize = 48,
        /// How far noise may move a level, 0 to 64. Default 8.
        noise: u64 = 8,
        /// Whether answers are single letters or digits, such as `r` for red. Default false.
        letters: bool = false,
        /// Whether the pictures are grey, which shows what can be answered without seeing. Default false.
        blank: bool = false,
    }
    prompt "{{ question }}"
}

/// What is asked about shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShapesQuestion {
    /// The colour of the only object of a shape.
    Colour,
    /// The shape of the object of a colour.
    Shape,
    /// How many objects there are.
    Count,
    /// Whether there is an object of a colour and a shape.
    Exists,
    /// The row or the column of an object.
    Position,
    /// A sentence about all of them.
    Caption,
}

/// Names that begin with different letters, and their colours.
const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [220, 40, 40]),
    ("green", [40, 170, 60]),
    ("blue", [50, 80, 220]),
    ("yellow", [230, 210, 40]),
    ("purple", [150, 50, 180]),
    ("cyan", [60, 200, 210]),
];
const SHAPES: [&str; 3] = ["circle", "square", "triangle"];
const NUMBERS: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
const GROUND: [u8; 3] = [235; 3];

/// An object: indices of its shape and colour, its cell, and where in it, in pixels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Object {
    shape: usize,
    colour: usize,
    cell: usize,
    centre: (i64, i64),
    radius: i64,
}

impl Object {
    fn name(&self) -> String {
        format!("{} {}", COLOURS[self.colour].0, SHAPES[self.shape])
    }

    fn covers(&self, x: i64, y: i64) -> bool {
        let (x, y, r) = (x - self.centre.0, y - self.centre.1, self.radius);
        match self.shape {
            0 => x * x + y * y <= r * r,
            // In tenths and hundredths, so that no machine rounds otherwise.
            1 => 20 * x.abs().max(y.abs()) <= 17 * r,
            _ => 5 * y <= 4 * r && y >= -r && 20 * x.abs() <= 11 * (y + r),
        }
    }
}

/// Cells a side for so many objects.
fn grid(objects: usize) -> usize {
    match objects {
        0..=1 => 1,
        2..=4 => 2,
        _ => 3,
    }
}

/// The objects of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scene {
    objects: Vec<Object>,
    /// Cells a side.
    grid: usize,
}

impl Scene {
    fn draw(config: &ShapesConfig, count: usize, dice: &mut Dice) -> Self {
        let grid = grid(config.max_objects);
        let side = (config.size / grid) as i64;
        let (mut colours, mut cells): (Vec<usize>, Vec<usize>) =
            ((0..config.colours).collect(), (0..grid * grid).collect());
        dice.shuffle(&mut colours);
        dice.shuffle(&mut cells);
        let mut objects: Vec<Object> = (0..count)
            .map(|i| {
                let radius = dice.between((side * 7 / 24) as u64, (side * 10 / 24) as u64) as i64;
                // Anywhere in its cell.
                let free = (side - 2 * radius).max(1) as u64;
                let mut place = |at: usize| at as i64 * side + radius + dice.between(0, free - 1) as i64;
                let centre = (place(cells[i] % grid), place(cells[i] / grid));
                Object { shape: dice.index(SHAPES.len()), colour: colours[i], cell: cells[i], centre, radius }
            })
            .collect();
        objects.sort_unstable_by_key(|object| object.cell);
        Self { objects, grid }
    }

    /// Which shapes of which colours are in which cells.
    fn arrangement(&self) -> u64 {
        let object = |o: &Object| random::word(&[o.shape as u64, o.colour as u64, o.cell as u64]);
        let all: Vec<u64> = self.objects.iter().map(object).chain([self.grid as u64]).collect();
        random::word(&all)
    }

    /// The same with where exactly they are.
    fn key(&self) -> u64 {
        let object = |o: &Object| random::word(&[o.centre.0 as u64, o.centre.1 as u64, o.radius as u64]);
        let all: Vec<u64> = self.objects.iter().map(object).chain([self.arrangement()]).collect();
        random::word(&all)
    }

    fn picture(&self, size: usize, noise: u64) -> Rgb {
        let mut canvas = Canvas::new(size, GROUND);
        for object in &self.objects {
            let (x, y) = object.centre;
            let around = (x - object.radius, y - object.radius, 2 * object.radius + 1);
            canvas.fill(around, COLOURS[object.colour].1, |x, y| object.covers(x, y));
        }
        canvas.noisy(noise, self.key())
    }

    /// What a row, or a column, is called.
    fn side(&self, at: usize, names: [&'static str; 2]) -> &'static str {
        match at {
            0 => names[0],
            _ if at + 1 == self.grid => names[1],
            _ => "middle",
        }
    }

    fn row(&self, object: &Object) -> &'static str {
        self.side(object.cell / self.grid, ["top", "bottom"])
    }

    fn column(&self, object: &Object) -> &'static str {
        self.side(object.cell % self.grid, ["left", "right"])
    }

    fn caption(&self) -> String {
        let one = |object: &Object| match self.grid {
            1 => format!("a {}", object.name()),
            _ => format!("a {} at the {} {}", object.name(), self.row(object), self.column(object)),
        };
        self.objects.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// A question and its answer; none where it cannot be asked about these objects.
    fn ask(&self, question: ShapesQuestion, dice: &mut Dice) -> Option<(String, String)> {
        let is_alone =
            |object: &&Object| self.objects.iter().filter(|other| other.shape == object.shape).count() == 1;
        let asked: Vec<&Object> = match question {
            ShapesQuestion::Colour => self.objects.iter().filter(is_alone).collect(),
            _ => self.objects.iter().collect(),
        };
        if asked.is_empty() {
            return None;
        }
        let object = asked[dice.index(asked.len())];
        let (colour, shape) = (COLOURS[object.colour].0, SHAPES[object.shape]);
        Some(match question {
            ShapesQuestion::Colour => (format!("What colour is the {shape}?"), colour.to_owned()),
            ShapesQuestion::Shape => (format!("Which shape is {colour}?"), shape.to_owned()),
            ShapesQuestion::Count => {
                ("How many objects are there?".to_owned(), self.objects.len().to_string())
            }
            ShapesQuestion::Exists => {
                // Of a colour that is there in any case.
                let others = [1, 2].map(|step| SHAPES[(object.shape + step) % SHAPES.len()]);
                let (shape, answer) = if dice.coin() { (shape, "yes") } else { (*dice.pick(&others), "no") };
                (format!("Is there a {colour} {shape}?"), answer.to_owned())
            }
            ShapesQuestion::Position if dice.coin() => {
                let middle = if self.grid > 2 { ", in the middle" } else { "" };
                let name = object.name();
                let question = format!("Is the {name} at the top{middle} or at the bottom?");
                (question, self.row(object).to_owned())
            }
            ShapesQuestion::Position => {
                let middle = if self.grid > 2 { ", in the middle" } else { "" };
                let question = format!("Is the {} on the left{middle} or on the right?", object.name());
                (question, self.column(object).to_owned())
            }
            ShapesQuestion::Caption => ("Describe the picture.".to_owned(), self.caption()),
        })
    }
}

impl Generator for ShapesConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        check_range(
            at,
            ["min_objects", "max_objects"],
            [self.min_objects as u64, self.max_objects as u64],
            [1, COLOURS.len() as u64],
            checks,
        );
        let least = (self.max_objects as u64).clamp(2, COLOURS.len() as u64);
        check_between(at, "colours", self.colours as u64, [least, COLOURS.len() as u64], checks);
        check_between(
            at,
            "size",
            self.size as u64,
            [if self.max_objects > 4 { 24 } else { 16 }, 512],
            checks,
        );
        check_between(at, "noise", self.noise, [0, MAX_NOISE], checks);
        checks.require(!self.questions.is_empty(), format!("{at}.questions"), "asks nothing");
        checks.require(
            !self.questions.contains(&ShapesQuestion::Position) || self.max_objects > 1,
            format!("{at}.questions"),
            "asks for the position of one object that has the whole picture: take it out, or set max_objects = 2",
        );
        checks.require(
            !self.questions.contains(&ShapesQuestion::Count) || self.min_objects < self.max_objects,
            format!("{at}.questions"),
            format!(
                "asks for the count, which is {} always: take it out, or let min_objects and max_objects differ",
                self.max_objects
            ),
        );
    }

    fn is_blank(&self) -> bool {
        self.blank
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let question = *dice.pick(&self.questions);
        let count = dice.between(self.min_objects as u64, self.max_objects as u64) as usize;
        let scene = Scene::draw(self, count, dice);
        let (asked, mut answer) = scene.ask(question, dice)?;
        let mut accepted = vec![answer.clone()];
        if let Ok(count) = answer.parse::<usize>() {
            accepted.push(NUMBERS[count - 1].to_owned());
        }
        if self.letters && question != ShapesQuestion::Caption {
            answer.truncate(1);
            accepted.insert(0, answer.clone());
            accepted.dedup();
        }
        let id = format!("{:016x}", random::word(&[scene.key(), random::hash_bytes(asked.as_bytes())]));
        let fields = json!({ "question": asked });
        // There are too few arrangements of one object to keep some out, and the colours of the rest balanced.
        let side = if count > 1 { scene.arrangement() } else { scene.key() };
        let work = scene.caption();
        let (size, noise) = (self.size, self.noise);
        let accepted = if accepted.len() == 1 { json!(answer) } else { json!(accepted) };
        let draw = Draw::new(id, fields, json!({ "answer": accepted }), work, answer);
        Some(Draw { side, ..draw }.showing(move || scene.picture(size, noise)))
    }
}
