//! The gradient of an update from those of all ranks, and the weights that they make of it.
//!
//! All trained elements lie one behind the other, in the order of their parameters, and are cut into a chunk a rank
//! ([`Chunks`]). Each rank sends every other one what it has of that one's chunk, adds up what comes as the upper levels of the
//! tree of shards, updates its chunk with the moments that only it has (ZeRO-1, arXiv:1910.02054), and sends the weights to all.
use crate::parallel::{Chunks, RanksError, World, add_in_order};
use crate::train::optim::Optimizer;
use rlvr_policies::Decoder;
use rlvr_policies::gradients::Gradients;
use std::ops::Range;

/// Elements of a chunk that are exchanged at once, which bounds the memory that this takes.
const AT_ONCE: usize = 1 << 22;

/// Neighbouring trained elements of a parameter.
#[derive(Debug, Clone)]
struct Run {
    /// In the parameter.
    elements: Range<usize>,
    /// Where they begin among all.
    at: usize,
}

/// Who owns which of the trained elements of a decoder.
#[derive(Debug)]
pub(crate) struct Reduction {
    chunks: Chunks,
    /// By parameter.
    runs: Vec<Vec<Run>>,
    /// Where the gradient of each parameter begins among all, and where the last ends.
    offsets: Vec<usize>,
}

/// What of `range` lies in `part`, counted from the beginning of `part` and of `range`; none where nothing does.
fn overlap(range: &Range<usize>, part: &Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
    let (start, end) = (range.start.max(part.start), range.end.min(part.end));
    (start < end).then(|| (start - part.start..end - part.start, start - range.start..end - range.start))
}

impl Reduction {
    /// The chunks of all ranks; `optim` keeps the state of its own one only.
    pub(crate) fn new(world: &World, optim: &mut Optimizer, decoder: &Decoder) -> Self {
        let trained = decoder.trained_parts();
        let (mut offsets, mut runs) = (vec![0], Vec::new());
        for (i, at) in (0..trained.flags().len()).scan(0, |at, i| {
            let begin = *at;
            *at += trained.len(i);
            Some((i, begin))
        }) {
            offsets.push(at + trained.len(i));
            let run = |span: &rlvr_policies::trained::Span| Run {
                elements: span.elements.clone(),
                at: at + span.at,
            };
            runs.push(trained.spans(i).iter().map(run).collect());
        }
        let len = offsets.last().copied().unwrap_or(0);
        let chunks = Chunks::new(len, world.size(), &optim.cuts(&offsets));
        optim.keep(&chunks.of(world.rank()), &offsets);
        Self { chunks, runs, offsets }
    }

    /// What of each chunk is exchanged in each round, by rank.
    fn rounds(&self, world: &World) -> impl Iterator<Item = Vec<Range<usize>>> {
        let (chunks, size) = (self.chunks.clone(), world.size());
        (0..self.chunks.longest()).step_by(AT_ONCE).map(move |from| {
            let part = |rank: usize| {
                let chunk = chunks.of(rank);
                (chunk.start + from).min(chunk.end)..(chunk.start + from + AT_ONCE).min(chunk.end)
            };
            (0..size).map(part).collect()
        })
    }

    /// Sums up the gradients of all ranks: afterwards the chunk of this rank holds its sum. Returns the norm of the whole.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn reduce(&self, world: &World, grads: &mut Gradients) -> Result<f64, RanksError> {
        let (Some(transport), Gradients::Host(own, _)) = (world.transport(), &mut *grads) else {
            return Ok(grads.global_norm());
        };
        for parts in self.rounds(world) {
            let mut sent = Vec::new();
            for part in &parts {
                let mut values = vec![0f32; part.len()];
                for (i, gradient) in own.iter().enumerate() {
                    let all = self.offsets[i]..self.offsets[i + 1];
                    if let Some((here, there)) = overlap(part, &all) {
                        values[there].copy_from_slice(&gradient[here]);
                    }
                }
                sent.push(values);
            }
            let bytes: Vec<&[u8]> = sent.iter().map(|values| bytemuck::cast_slice(values)).collect();
            let part = &parts[world.rank()];
            let mut got = Vec::new();
            for bytes in transport.all_to_all(&bytes)? {
                got.push(floats(&bytes, part.len())?);
            }
            add_in_order(&mut got.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
            for (i, gradient) in own.iter_mut().enumerate() {
                let all = self.offsets[i]..self.offsets[i + 1];
                if let (Some((here, there)), Some(sum)) = (overlap(part, &all), got.first()) {
                    gradient[here].copy_from_slice(&sum[there]);
                }
            }
        }
        let squares = grads.block_squares(&self.chunks.of(world.rank()));
        let all = world.gather_numbers(vec![squares])?;
        // In the order of blocks, which is that of chunks.
        Ok(all.iter().flatten().sum::<f64>().sqrt())
    }

    /// Gives all ranks the weights that each has made of its chunk.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn share(&self, world: &World, decoder: &mut Decoder) -> Result<(), RanksError> {
        let Some(transport) = world.transport() else { return Ok(()) };
        for parts in self.rounds(world) {
            let mut own = vec![0f32; parts[world.rank()].len()];
            self.each_run(decoder, &parts[world.rank()], |weights, there| {
                own[there].copy_from_slice(weights);
            });
            let got = transport.all_gather(bytemuck::cast_slice(&own))?;
            for (rank, bytes) in got.iter().enumerate().filter(|(rank, _)| *rank != world.rank()) {
                let values = floats(bytes, parts[rank].len())?;
                self.each_run(decoder, &parts[rank], |weights, there| {
                    weights.copy_from_slice(&values[there]);
                });
            }
        }
        Ok(())
    }

    /// Calls `f` with the weights of every run in a range of all elements, and where they lie in it.
    fn each_run(
        &self,
        decoder: &mut Decoder,
        range: &Range<usize>,
        mut f: impl FnMut(&mut [f32], Range<usize>),
    ) {
        decoder.update_on_host(|i, _, weights| {
            for run in &self.runs[i] {
                if let Some((here, there)) = overlap(range, &(run.at..run.at + run.elements.len())) {
                    let from = run.elements.start;
                    f(&mut weights[from + here.start..from + here.end], there);
                }
            }
        });
    }
}

/// As many numbers as there must be.
fn floats(bytes: &[u8], len: usize) -> Result<Vec<f32>, RanksError> {
    let mut values = vec![0f32; len];
    let room: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
    if room.len() != bytes.len() {
        let what = format!("a rank sent {} bytes where {} were expected", bytes.len(), room.len());
        return Err(RanksError::Apart { what });
    }
    room.copy_from_slice(bytes);
    Ok(values)
}
