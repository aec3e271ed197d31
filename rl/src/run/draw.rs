//! Which rows a GRPO stage draws: the next of its source; with several sources each slot first draws one of them; with a
//! curriculum rows are drawn by weights that follow their pass rates.
//!
//! Every draw is a function of the seed, the step and the slot, and of what checkpoints keep: how many rows of each source were
//! drawn, and the running pass rates.
use crate::checkpoint::TrainState;
use crate::config::CurriculumConfig;
use crate::data::TaskSource;
use crate::random;
use crate::run::state::DRAWN;
use crate::train::grpo::Group;
use rlvr_rewards::{Task, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Numbers beside those of [`crate::data`].
const MIX_STREAM: u64 = 6;
const CURRICULUM_STREAM: u64 = 7;

/// What a stage draws from.
pub(crate) struct Draw<'a> {
    sources: Vec<(&'a TaskSource, f64)>,
    curriculum: Option<&'a CurriculumConfig>,
    seed: u64,
}

/// Of one source: rows drawn so far, and the running pass rates by row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Drawn {
    rows: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rates: BTreeMap<usize, f64>,
}

/// A row: the place of its source, and its index there.
pub(crate) type Row = (usize, usize);

impl<'a> Draw<'a> {
    /// Draws from sources with weights. `curriculum` weighs their rows.
    pub(crate) fn new(
        sources: Vec<(&'a TaskSource, f64)>,
        curriculum: Option<&'a CurriculumConfig>,
        seed: u64,
    ) -> Self {
        Self { sources, curriculum, seed }
    }

    /// Rows of all sources.
    pub(crate) fn len(&self) -> usize {
        self.sources.iter().map(|(source, _)| source.len()).sum()
    }

    /// Whether it needs nothing but the position in its one source.
    fn is_plain(&self) -> bool {
        self.sources.len() == 1 && self.curriculum.is_none()
    }

    /// The task of a row.
    pub(crate) fn task(&self, (source, index): Row) -> &'a Task {
        self.sources[source].0.task(index)
    }

    fn drawn(&self, state: &TrainState) -> Vec<Drawn> {
        let kept = state.extra.get(DRAWN).cloned();
        let mut all: Vec<Drawn> = kept.and_then(|kept| serde_json::from_value(kept).ok()).unwrap_or_default();
        all.resize(self.sources.len(), Drawn::default());
        all
    }

    /// The rows of a step's `count` slots; the steps before it are in `state`.
    pub(crate) fn rows(&self, state: &TrainState, count: usize) -> Vec<Row> {
        if self.is_plain() {
            let source = self.sources[0].0;
            return (0..count as u64).map(|i| (0, source.index_at(state.data_position + i))).collect();
        }
        let drawn = self.drawn(state);
        let step = state.step + 1;
        let mut taken = vec![0; self.sources.len()];
        let mut orders: Vec<Option<Vec<usize>>> = vec![None; self.sources.len()];
        let mut rows = Vec::with_capacity(count);
        for slot in 0..count as u64 {
            let place = self.source_of(step, slot);
            let source = self.sources[place].0;
            let nth = taken[place];
            taken[place] += 1;
            let index = match self.curriculum {
                None => source.index_at(drawn[place].rows + nth as u64),
                Some(config) => {
                    let order = orders[place]
                        .get_or_insert_with(|| self.weighted(config, step, place, &drawn[place].rates));
                    // No row twice in a step, as long as there are others.
                    order[nth % order.len()]
                }
            };
            rows.push((place, index));
        }
        rows
    }

    /// The place of the source that a slot draws from.
    fn source_of(&self, step: u64, slot: u64) -> usize {
        let total: f64 = self.sources.iter().map(|(_, weight)| weight).sum();
        let mut left = total * random::unit(&[self.seed, MIX_STREAM, step, slot]);
        for (place, (_, weight)) in self.sources.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return place;
            }
        }
        self.sources.len() - 1
    }

    /// The rows of a source in the order of a draw by weights without putting back: by ascending −ln(u)/w for uniform u
    /// (Efraimidis and Spirakis: Weighted random sampling with a reservoir. Information Processing Letters 97, 2006).
    fn weighted(
        &self,
        config: &CurriculumConfig,
        step: u64,
        place: usize,
        rates: &BTreeMap<usize, f64>,
    ) -> Vec<usize> {
        let key = |row: usize| {
            let u = random::unit(&[self.seed, CURRICULUM_STREAM, step, place as u64, row as u64]);
            // 1 − u is never 0.
            -(1.0 - u).ln() / config.weight(rates.get(&row).copied())
        };
        let mut keyed: Vec<(f64, usize)> =
            (0..self.sources[place].0.len()).map(|row| (key(row), row)).collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        keyed.into_iter().map(|(_, row)| row).collect()
    }

    /// Keeps in `state` what a step took: the first `count` of its rows, and the groups that came of them. Returns the share of
    /// the groups whose running pass rate now lies in the target; none without a curriculum or without groups that were judged.
    pub(crate) fn keep(
        &self,
        state: &mut TrainState,
        rows: &[Row],
        count: usize,
        groups: &[Group],
    ) -> Option<f64> {
        if self.is_plain() {
            return None;
        }
        let mut drawn = self.drawn(state);
        let rows = &rows[..count.min(rows.len())];
        rows.iter().for_each(|(place, _)| drawn[*place].rows += 1);
        let (mut left, mut inside, mut judged) = (rows.iter(), 0, 0);
        for group in groups.iter().filter(|_| self.curriculum.is_some()) {
            // Groups stand in the order of their rows; a row whose prompt was too long has none.
            let Some((place, index)) = left.find(|row| self.task(**row).id == group.id) else { break };
            let (Some(config), Some(share)) = (self.curriculum, passed(group)) else { continue };
            let rate = drawn[*place].rates.entry(*index).or_insert(share);
            *rate += config.newest * (share - *rate);
            judged += 1;
            inside += usize::from(config.holds(*rate));
        }
        if let Ok(value) = serde_json::to_value(&drawn) {
            state.extra.insert(DRAWN.to_owned(), value);
        }
        (judged > 0).then(|| f64::from(inside as u32) / f64::from(judged as u32))
    }
}

/// The share of correct completions among those of a group that were judged.
fn passed(group: &Group) -> Option<f64> {
    let judged = group.judgements.iter().filter(|j| j.reward.is_some());
    let (all, correct) = judged.fold((0_u32, 0_u32), |(all, correct), j| {
        (all + 1, correct + u32::from(j.outcome.verdict == Verdict::Correct))
    });
    (all > 0).then(|| f64::from(correct) / f64::from(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataConfig;
    use crate::train::judging::Judgement;
    use rlvr_rewards::Outcome;
    use serde_json::{Map, Value};

    fn additions(name: &str, tasks: usize) -> TaskSource {
        let config: DataConfig = toml::from_str(&format!("kind = \"addition\"\ntasks = {tasks}")).unwrap();
        TaskSource::open(name, &config, 1).unwrap()
    }

    /// The group of a row in which a share of eight completions is correct.
    fn group(task: &Task, correct: usize) -> Group {
        let judgement = |i: usize| Judgement {
            text: String::new(),
            truncated: false,
            reward: Some(f64::from(u8::from(i < correct))),
            outcome: Outcome::of(if i < correct { Verdict::Correct } else { Verdict::Incorrect }, "", ""),
        };
        Group {
            id: task.id.clone(),
            reference: Value::Null,
            meta: Map::new(),
            prompt_text: String::new(),
            prompt: vec![1],
            images: vec![],
            image_names: vec![],
            completions: vec![],
            judgements: (0..8).map(judgement).collect(),
            advantages: vec![],
            given: vec![],
        }
    }

    #[test]
    fn sources_are_drawn_by_their_weights_and_their_rows_in_order() {
        let (a, b) = (additions("a", 40), additions("b", 70));
        let draw = Draw::new(vec![(&a, 3.0), (&b, 1.0)], None, 5);
        let (mut state, mut all) = (TrainState::start(5), Vec::new());
        for _ in 0..100 {
            let rows = draw.rows(&state, 24);
            // A step may draw more than it takes.
            draw.keep(&mut state, &rows, 20, &[]);
            all.extend_from_slice(&rows[..20]);
            state.step += 1;
            // As a checkpoint keeps it.
            state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        }
        let of = |place: usize| all.iter().filter(|r| r.0 == place).map(|r| r.1).collect::<Vec<_>>();
        // 1500 expected of 2000, standard deviation 19.
        assert!((1420..1580).contains(&of(0).len()), "{}", of(0).len());
        for (place, source) in [&a, &b].into_iter().enumerate() {
            let expected: Vec<usize> = (0..of(place).len()).map(|i| source.index_at(i as u64)).collect();
            assert_eq!(of(place), expected);
        }
    }

    #[test]
    fn rows_outside_the_target_are_drawn_as_their_weight_says() {
        let source = additions("a", 60);
        let config = CurriculumConfig { target: [0.25, 0.75], outside: 0.2, newest: 1.0 };
        let draw = Draw::new(vec![(&source, 1.0)], Some(&config), 9);
        let mut state = TrainState::start(9);
        // A third each is never, sometimes and always solved.
        let correct = |row: usize| [0, 4, 8][row % 3];
        let (mut counts, mut share) = ([0; 3], None);
        for step in 0..2000 {
            let rows = draw.rows(&state, 4);
            let mut distinct: Vec<usize> = rows.iter().map(|r| r.1).collect();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 4, "no row twice in a step");
            let groups: Vec<Group> = rows.iter().map(|r| group(draw.task(*r), correct(r.1))).collect();
            share = draw.keep(&mut state, &rows, 4, &groups);
            state.step += 1;
            if step >= 200 {
                rows.iter().for_each(|r| counts[r.1 % 3] += 1);
            }
        }
        let total = f64::from(counts.iter().sum::<i32>());
        let shares = counts.map(|n| f64::from(n) / total);
        // 1 : 0.2 on each side, a little less steep because a step takes no row twice.
        assert!((0.66..0.72).contains(&shares[1]), "{shares:?}");
        assert!((shares[0] - shares[2]).abs() < 0.03, "{shares:?}");
        assert!(share.is_some_and(|share| (0.0..=1.0).contains(&share)));
        // More rows than there are: every one before any comes again.
        let many = draw.rows(&state, 130);
        let mut first: Vec<usize> = many[..60].iter().map(|r| r.1).collect();
        first.sort_unstable();
        assert_eq!(first, (0..60).collect::<Vec<_>>());
    }

    #[test]
    fn the_running_pass_rate_follows_the_groups_of_its_row_only() {
        let source = additions("a", 5);
        let config = CurriculumConfig { newest: 0.25, ..CurriculumConfig::default() };
        let draw = Draw::new(vec![(&source, 1.0)], Some(&config), 2);
        let mut state = TrainState::start(2);
        let rows: Vec<Row> = vec![(0, 3), (0, 1), (0, 4)];
        // The prompt of the second was too long, and nothing of the third could be judged.
        let mut unjudged = group(source.task(4), 0);
        unjudged.judgements.iter_mut().for_each(|j| j.reward = None);
        let groups = [group(source.task(3), 8), unjudged];
        assert_eq!(draw.keep(&mut state, &rows, 3, &groups), Some(0.0));
        assert_eq!(draw.drawn(&state)[0].rates, [(3, 1.0)].into());
        assert_eq!(draw.keep(&mut state, &rows, 3, &[group(source.task(3), 0)]), Some(1.0));
        assert_eq!(draw.drawn(&state)[0].rates, [(3, 0.75)].into());
        assert_eq!(draw.drawn(&state)[0].rows, 6);
    }
}
