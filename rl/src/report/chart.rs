//! Geometry of a line chart: axes with round numbers, thinned curves, moving averages. The page draws it.

use serde::Serialize;

use super::history::{Point, Stage};

/// Where a chart is drawn, in units of its view box.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Frame {
    width: i32,
    height: i32,
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

pub(super) const FRAME: Frame = Frame { width: 440, height: 214, left: 52, right: 432, top: 18, bottom: 188 };

/// Columns that a curve is thinned to.
const COLUMNS: u64 = 200;
/// Most values that get a dot each.
const MOST_DOTS: usize = 40;
/// Values of a stage from which on a moving average is drawn.
const MANY: usize = 50;
/// Values of a stage for each one on either side that an average takes in.
const PER_NEIGHBOUR: usize = 40;
/// Least distance of the names of stages.
const NAME_WIDTH: f64 = 44.0;

/// A mark on an axis, or a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Tick {
    pub at: String,
    pub label: String,
}

/// A value with its own mark.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Dot {
    x: String,
    y: String,
    title: String,
}

/// A metric as it is drawn.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Curve {
    pub name: String,
    pub help: &'static str,
    pub last: String,
    /// SVG path of the interval.
    band: Option<String>,
    /// SVG path of all values, where `line` is their average.
    faint: Option<String>,
    /// SVG path.
    line: String,
    dots: Vec<Dot>,
}

/// A chart as it is drawn.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Chart {
    pub title: &'static str,
    pub y: Vec<Tick>,
    pub x: Vec<Tick>,
    pub stages: Vec<Tick>,
    pub curves: Vec<Curve>,
}

/// What a chart is made of.
pub(super) struct Series<'a> {
    pub name: &'a str,
    pub help: &'static str,
    pub points: &'a [Point],
    /// Lower and upper ends of an interval, empty without one.
    pub band: (&'a [Point], &'a [Point]),
}

impl Chart {
    /// Draws `series` over `steps`, the first and last step of the run. `smooth`: where a stage has many values, their
    /// moving average is drawn over them.
    pub(super) fn new(
        title: &'static str,
        series: &[Series<'_>],
        steps: (u64, u64),
        stages: &[Stage],
        smooth: bool,
    ) -> Self {
        let drawn = series.iter().flat_map(|s| [s.points, s.band.0, s.band.1]).flatten();
        let range = drawn.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, value)| {
            (low.min(*value), high.max(*value))
        });
        let y = Axis::around(range.0, range.1);
        let scale = Scale { steps, values: (y.low, y.high) };
        let x_axis = Axis::whole(steps);
        Self {
            title,
            x: x_axis.ticks(
                |step| coordinate(scale.x(step)),
                |step| step >= steps.0 as f64 && step <= steps.1 as f64,
            ),
            y: y.ticks(|value| coordinate(scale.y(value)), |_| true),
            stages: marks(stages, &scale),
            curves: series.iter().map(|s| Curve::new(s, &scale, stages, smooth)).collect(),
        }
    }
}

impl Curve {
    fn new(series: &Series<'_>, scale: &Scale, stages: &[Stage], smooth: bool) -> Self {
        let points = series.points;
        let mut parts = by_stage(points, stages);
        let averaged = smooth && parts.iter().any(|part| part.len() >= MANY);
        if !averaged {
            parts = vec![points];
        }
        let line = parts.iter().map(|part| match averaged && part.len() >= MANY {
            true => scale.path(&moving_average(part)),
            false => scale.path(part),
        });
        let dot = |(step, value): &Point| Dot {
            x: coordinate(scale.x(*step as f64)),
            y: coordinate(scale.y(*value)),
            title: format!("step {step}: {}", number(*value)),
        };
        let (low, high) = series.band;
        let band = || {
            let mut edge = scale.thinned(high);
            edge.extend(scale.thinned(low).into_iter().rev());
            format!("{}Z", scale.joined(&edge))
        };
        Self {
            name: series.name.to_owned(),
            help: series.help,
            last: points.last().map_or(String::new(), |(_, value)| number(*value)),
            band: (low.len() > 1 && high.len() > 1).then(band),
            line: line.collect(),
            faint: averaged.then(|| scale.path(points)),
            dots: points.iter().filter(|_| points.len() <= MOST_DOTS).map(dot).collect(),
        }
    }
}

/// The names of the stages where they begin, those that would cover another left out.
fn marks(stages: &[Stage], scale: &Scale) -> Vec<Tick> {
    let mut end = f64::NEG_INFINITY;
    let mut mark = |stage: &Stage| {
        let (left, right) = (f64::from(FRAME.left), f64::from(FRAME.right));
        let x = scale.x(stage.first as f64 - 0.5).clamp(left, right);
        let fits = x >= end && x <= right - NAME_WIDTH / 2.0;
        let label: String = if fits { stage.name.chars().take(12).collect() } else { String::new() };
        end = if fits { x + NAME_WIDTH } else { end };
        Tick { at: coordinate(x), label }
    };
    stages.iter().map(&mut mark).collect()
}

/// The values of each stage.
fn by_stage<'a>(points: &'a [Point], stages: &[Stage]) -> Vec<&'a [Point]> {
    let mut rest = points;
    let mut parts = Vec::new();
    for stage in stages {
        let (part, later) = rest.split_at(rest.partition_point(|(step, _)| *step <= stage.last));
        parts.push(part);
        rest = later;
    }
    parts.push(rest);
    parts.retain(|part| !part.is_empty());
    parts
}

/// The mean of each value with its neighbours, a twentieth of all, fewer at the ends.
fn moving_average(points: &[Point]) -> Vec<Point> {
    let reach = (points.len() / PER_NEIGHBOUR).max(1);
    let mean = |i: usize| {
        let around = &points[i.saturating_sub(reach)..(i + reach + 1).min(points.len())];
        around.iter().map(|(_, value)| value / around.len() as f64).sum()
    };
    // Only as many as can be seen, each of which costs `reach`.
    let every = (points.len() as u64).div_ceil(COLUMNS).max(1) as usize;
    let shown = (0..points.len()).filter(|i| i.is_multiple_of(every) || i + 1 == points.len());
    shown.map(|i| (points[i].0, mean(i))).collect()
}

/// From steps and values to coordinates.
struct Scale {
    steps: (u64, u64),
    values: (f64, f64),
}

impl Scale {
    fn x(&self, step: f64) -> f64 {
        let (first, last) = (self.steps.0 as f64, self.steps.1 as f64);
        let share = (step - first) / (last - first).max(1.0);
        f64::from(FRAME.left) + share * f64::from(FRAME.right - FRAME.left)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        f64::from(FRAME.bottom) - (value - low) / (high - low) * f64::from(FRAME.bottom - FRAME.top)
    }

    /// The points of a curve, at most two in each of the columns: the smallest and the largest value there, so that
    /// no peak is lost.
    fn thinned(&self, points: &[Point]) -> Vec<Point> {
        let (first, last) = self.steps;
        let column = |point: &Point| {
            u128::from(point.0.saturating_sub(first)) * u128::from(COLUMNS)
                / u128::from((last - first).max(1))
        };
        let mut kept = Vec::new();
        for part in points.chunk_by(|a, b| column(a) == column(b)) {
            let by_value = |(_, a): &(usize, f64), (_, b): &(usize, f64)| a.total_cmp(b);
            let values = || part.iter().map(|(_, value)| *value).enumerate();
            let ends = [values().min_by(by_value), values().max_by(by_value)];
            let mut places: Vec<usize> = ends.into_iter().flatten().map(|(i, _)| i).collect();
            places.sort_unstable();
            places.dedup();
            kept.extend(places.into_iter().map(|i| part[i]));
        }
        kept
    }

    fn path(&self, points: &[Point]) -> String {
        self.joined(&self.thinned(points))
    }

    /// An SVG path through all of these.
    fn joined(&self, points: &[Point]) -> String {
        let place = |(step, value): &Point| {
            format!("{} {}", coordinate(self.x(*step as f64)), coordinate(self.y(*value)))
        };
        let places: Vec<String> = points.iter().map(place).collect();
        if places.is_empty() { String::new() } else { format!("M{}", places.join(" ")) }
    }
}

/// An axis whose ends and marks are multiples of 1, 2 or 5 times a power of ten.
#[derive(Debug, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// An axis of values. It begins at 0 when that is not far away.
    fn around(low: f64, high: f64) -> Self {
        let size = low.abs().max(high.abs());
        let (mut low, mut high) = match (high - low) > 1e-9 * size && (high - low) > 1e-290 {
            true => (low, high),
            false if size < 1e-290 || !size.is_finite() => (0.0, 1.0),
            false => (low - size / 2.0, high + size / 2.0),
        };
        if low > 0.0 && low < high / 2.0 {
            low = 0.0;
        }
        if high < 0.0 && high > low / 2.0 {
            high = 0.0;
        }
        let step = round_step((high - low) / 5.0);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }
    }

    /// An axis of steps.
    fn whole((first, last): (u64, u64)) -> Self {
        let (low, high) = (first as f64, last as f64);
        let step = round_step((high - low) / 5.0).max(1.0);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }
    }

    fn ticks(&self, place: impl Fn(f64) -> String, shown: impl Fn(f64) -> bool) -> Vec<Tick> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        let values = (0..=count).map(|i| self.low + i as f64 * self.step).filter(|v| shown(*v));
        values.map(|value| Tick { at: place(value), label: self.label(value) }).collect()
    }

    /// As many digits as tell the marks apart.
    fn label(&self, value: f64) -> String {
        let largest = self.low.abs().max(self.high.abs());
        let exponent = (self.step * 1.000_001).log10().floor() as i32;
        if value.abs() < self.step / 2.0 {
            return "0".to_owned();
        }
        if largest >= 1e6 || exponent < -4 {
            let digits = (value.abs().log10().floor() as i32 - exponent).max(0) as usize;
            return format!("{value:.digits$e}");
        }
        format!("{value:.*}", (-exponent).max(0) as usize)
    }
}

/// The least of 1, 2, 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// One digit behind the point, where it is not 0.
fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// A number with four significant digits.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:.3e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if !(-4..6).contains(&exponent) {
        return format!("{}e{exponent}", trimmed(digits));
    }
    trimmed(&format!("{value:.*}", (3 - exponent).max(0) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks(|_| String::new(), |_| true).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn axes_have_round_numbers_around_the_values() {
        for (low, high, expected) in [
            (0.0, 0.96, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"][..]),
            (0.31, 0.83, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (0.90, 0.96, &["0.90", "0.92", "0.94", "0.96"]),
            (-0.04, 0.03, &["-0.04", "-0.02", "0", "0.02", "0.04"]),
            (0.0, 1.9e-13, &["0", "5e-14", "1.0e-13", "1.5e-13", "2.0e-13"]),
            (12_000.0, 29_400.0, &["0", "10000", "20000", "30000"]),
            (2e-4, 2e-4, &["0", "0.0001", "0.0002", "0.0003"]),
            (0.0, 0.0, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (-5.0, -5.0, &["-8", "-6", "-4", "-2", "0"]),
            (f64::INFINITY, f64::NEG_INFINITY, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ] {
            let axis = Axis::around(low, high);
            assert_eq!(labels(&axis), expected, "{low} to {high}");
            assert!(!low.is_finite() || (axis.low <= low && high <= axis.high), "{axis:?}");
        }
        for (low, high) in [(1e-310, 2e-310), (-1e300, 1e300), (1.0, 1.0 + 1e-15), (0.0, 1e-200)] {
            let axis = Axis::around(low, high);
            assert!(axis.step > 0.0 && axis.low < axis.high && labels(&axis).len() < 9, "{axis:?}");
        }
        assert_eq!(labels(&Axis::whole((0, 885))), ["0", "200", "400", "600", "800", "1000"]);
        assert_eq!(labels(&Axis::whole((3, 4))), ["3", "4"]);
        assert_eq!(labels(&Axis::whole((7, 7))), ["7"]);
    }

    #[test]
    fn numbers_have_four_digits() {
        let cases = [(0.0, "0"), (0.9025390625, "0.9025"), (-1.5, "-1.5"), (29_400.67, "29401")];
        let more = [(1.92879e-13, "1.929e-13"), (9.99996, "10"), (2e-5, "2e-5"), (1234567.0, "1.235e6")];
        for (value, text) in cases.into_iter().chain(more) {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn thinning_keeps_every_peak_and_stays_small() {
        let mut points: Vec<Point> = (1..=100_000).map(|step| (step, (step as f64 / 9e3).sin())).collect();
        points[77_776].1 = 50.0;
        points[12_344].1 = -30.0;
        let scale = Scale { steps: (1, 100_000), values: (-30.0, 50.0) };
        let kept = scale.thinned(&points);
        assert!(kept.len() <= 2 * COLUMNS as usize + 2, "{}", kept.len());
        assert!(kept.contains(&(77_777, 50.0)) && kept.contains(&(12_345, -30.0)));
        assert!(kept.is_sorted_by_key(|(step, _)| *step));
        assert!(moving_average(&points).len() <= COLUMNS as usize + 1);
        assert_eq!(scale.thinned(&points[..1]), points[..1]);
    }

    #[test]
    fn averages_do_not_reach_over_stages() {
        let stage = |name: &str, first, last| Stage { name: name.into(), first, last };
        let stages = [stage("a", 1, 100), stage("b", 101, 200)];
        let points: Vec<Point> = (1..=200).map(|step| (step, if step <= 100 { 1.0 } else { 3.0 })).collect();
        let parts = by_stage(&points, &stages);
        assert_eq!(parts, [&points[..100], &points[100..]]);
        assert!(parts.iter().all(|part| moving_average(part).iter().all(|p| p.1 == part[0].1)));
        let noisy: Vec<Point> = (0..100).map(|i| (i, if i % 2 == 0 { 1.0 } else { 0.0 })).collect();
        // Two neighbours on either side: 3 of 5 or 2 of 5.
        let smooth = moving_average(&noisy);
        assert!(smooth[2..98].iter().all(|p| (p.1 - 0.5).abs() < 0.11), "{smooth:?}");

        let series = [Series { name: "x", help: "", points: &points, band: (&[], &[]) }];
        let chart = Chart::new("t", &series, (0, 200), &stages, true);
        let curve = &chart.curves[0];
        assert_eq!(curve.line.matches('M').count(), 2);
        assert_eq!(curve.faint.as_ref().unwrap().matches('M').count(), 1);
        assert!(curve.dots.is_empty() && curve.band.is_none());
        let names: Vec<_> = chart.stages.iter().map(|s| &*s.label).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn coordinates_lie_where_the_values_do() {
        let points = [(0, 0.0), (5, 1.0), (10, 0.5)];
        let band = ([(0, 0.0), (10, 0.4)], [(0, 0.2), (10, 0.6)]);
        let series = [Series { name: "x", help: "", points: &points, band: (&band.0, &band.1) }];
        let chart = Chart::new("t", &series, (0, 10), &[], true);
        let curve = &chart.curves[0];
        assert_eq!(curve.line, "M52 188 242 18 432 103");
        assert_eq!(curve.band.as_deref(), Some("M52 154 432 86 432 120 52 188Z"));
        assert_eq!((&*curve.dots[1].title, &*curve.dots[1].y), ("step 5: 1", "18"));
        assert_eq!((&*curve.last, curve.faint.is_none()), ("0.5", true));
        assert_eq!(chart.y[1], Tick { at: "154".into(), label: "0.2".into() });
    }
}
