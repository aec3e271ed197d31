//! The steps of a stage whose rollouts are begun before they are due (`max_lag`).
use crate::checkpoint::TrainState;
use crate::error::Error;
use crate::run::draw::{Draw, Row};
use crate::train::ahead::{Begun, Threads};
use crate::train::grpo::{Rollouts, Trainer};
use std::collections::VecDeque;

/// Rollouts of the next steps. Those of a step are begun `lag` steps before it, from the weights of that moment; the first ones
/// of a stage, or behind a checkpoint, all at once.
pub(crate) struct Ahead<'a> {
    threads: &'a dyn Threads<'a>,
    lag: usize,
    /// Steps of the stage.
    steps: u64,
    prompts: usize,
    /// Where the run will stand when all that was begun is done, as far as what it draws goes.
    drawn: TrainState,
    begun: VecDeque<(Vec<Row>, Begun)>,
}

impl<'a> Ahead<'a> {
    /// Nothing yet, of a stage of so many steps with so many prompts each, where the run stands now.
    pub(crate) fn new(
        threads: &'a dyn Threads<'a>,
        lag: usize,
        (steps, prompts): (u64, usize),
        now: &TrainState,
    ) -> Self {
        Self { threads, lag, steps, prompts, drawn: now.clone(), begun: VecDeque::new() }
    }

    /// Whether rollouts are to begin.
    fn is_time(&self) -> bool {
        self.begun.len() <= self.lag && self.drawn.step_in_stage < self.steps
    }

    /// The rollouts of the step that is due, with the rows that they were drawn from; begins those that it is time for.
    ///
    /// # Errors
    /// What ended the rollouts; weights that are not handed over.
    pub(crate) fn next(
        &mut self,
        trainer: &Trainer<'a>,
        draw: &Draw<'a>,
    ) -> Result<(Vec<Row>, Rollouts), Error> {
        if self.is_time() {
            if trainer.engine.versions() <= self.lag {
                // New weights take the place of those that are asked for.
                self.begun.iter_mut().for_each(|(_, begun)| begun.settle());
            }
            trainer.engine.sync(&trainer.policy, trainer.version)?;
        }
        while self.is_time() {
            let rows = draw.rows(&self.drawn, self.prompts);
            let tasks = rows.iter().map(|row| draw.task(*row)).collect();
            let begun = trainer.begin(self.drawn.step + 1, tasks, self.threads)?;
            draw.keep(&mut self.drawn, &rows, rows.len(), &[]);
            self.drawn.step += 1;
            self.drawn.step_in_stage += 1;
            self.drawn.data_position += rows.len() as u64;
            self.begun.push_back((rows, begun));
        }
        match self.begun.pop_front() {
            Some((rows, begun)) => Ok((rows, begun.wait()?)),
            None => Ok((Vec::new(), Rollouts::default())),
        }
    }
}
