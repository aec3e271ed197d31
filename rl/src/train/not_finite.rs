//! Which sample made a number of a step NaN or infinite, for the error that ends the run.
use crate::algorithm::LossError;
use crate::error::Error;
use crate::train::group::Group;
use crate::train::trajectory::Trajectory;

/// What is to be done about numbers that are not finite.
const FIX: &str = "nothing was changed: lower the learning rate, or go back to an earlier checkpoint";

/// The sample of a trajectory: the id of its prompt, and which completion of it, from 1.
pub(crate) fn sample(trajectory: &Trajectory, groups: &[Group]) -> String {
    let id = groups.get(trajectory.prompt).map_or("", |group| group.id.as_str());
    format!("prompt {id:?}, completion {}", trajectory.sample + 1)
}

/// The error of the loss with the sample that it is about; others stay what they are.
pub(crate) fn of_loss(error: LossError, micro: &[Trajectory], groups: &[Group]) -> Error {
    let at = |sequence: usize| micro.get(sequence).map_or(String::new(), |t| sample(t, groups));
    let what = match &error {
        LossError::NotFinite { sequence, token, array, value } => {
            format!("{}, token {}: {array} is {value}; {FIX}", at(*sequence), token + 1)
        }
        LossError::Overflow { sequence, log_ratio } => format!(
            "{}: the loss or its gradient overflows (largest log-ratio {log_ratio} nats); {FIX}",
            at(*sequence)
        ),
        LossError::Length { .. } | LossError::Missing { .. } => return Error::Loss(error),
    };
    Error::NotFinite { what }
}

/// The error for a log-probability of a supervised example, by the place of its row.
pub(crate) fn of_example(place: &str, token: usize, value: f64) -> Error {
    Error::NotFinite { what: format!("{place}, token {}: its log-probability is {value}; {FIX}", token + 1) }
}

#[cfg(test)]
mod tests {
    use crate::config::{GrpoConfig, SftConfig};
    use crate::data::TaskSource;
    use crate::policy::Policy;
    use crate::train::grpo::{Source, Trainer};
    use crate::train::recorded::{RecordedGroup, RecordedRollout, RecordedStep};
    use crate::train::sft::SftTrainer;
    use burn::tensor::Device;
    use rlvr_policies::config::Shape;
    use rlvr_policies::{Architecture, Decoder, ModelConfig, RopeScaling};

    /// The token whose embedding is NaN: whatever reads it is, and nothing else, because embeddings and head differ.
    const BAD: u32 = 7;

    fn broken_policy() -> Policy {
        let model = ModelConfig {
            architecture: Architecture::Llama,
            vocab_size: Policy::CHARACTERS.len(),
            hidden_size: 16,
            intermediate_size: 16,
            num_layers: 1,
            num_heads: 2,
            num_kv_heads: 2,
            head_dim: 8,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            max_position_embeddings: 32,
            attention_bias: false,
            attention_output_bias: false,
            tie_word_embeddings: false,
            bos_token_id: None,
            eos_token_ids: vec![],
            pad_token_id: None,
            shape: Shape::default(),
            vision: None,
        };
        let mut decoder =
            Decoder::random(model, &Device::flex(), |p, e| ((p * 31 + e) as f32 * 0.7).sin() * 0.1);
        let embeddings = decoder.layout().specs.iter().position(|s| s.name.contains("embed")).unwrap();
        let mut values = decoder.param_values(embeddings);
        values[BAD as usize * 16] = f32::NAN;
        decoder.set_param(embeddings, values);
        Policy::without_text(decoder).unwrap()
    }

    fn group(name: &str, completions: &[&[u32]]) -> RecordedGroup {
        let rollout = |(i, tokens): (usize, &&[u32])| RecordedRollout {
            prompt_tokens: vec![3, 4],
            completion_tokens: tokens.to_vec(),
            reward: Some(i as f64),
            logprobs: None,
            advantage: None,
            line: 1,
        };
        RecordedGroup { group: name.into(), rollouts: completions.iter().enumerate().map(rollout).collect() }
    }

    #[test]
    fn a_log_probability_names_prompt_and_completion_and_changes_nothing() {
        let config: GrpoConfig =
            toml::from_str("steps = 1\nmicro_batch = 2\n[sampling]\nmax_tokens = 4").unwrap();
        let mut trainer = Trainer::new(broken_policy(), None, &config, None, 1, 1);
        let before: Vec<Vec<f32>> = (0..trainer.policy.decoder.params().len())
            .map(|i| trainer.policy.decoder.param_values(i))
            .collect();
        let groups = vec![
            group("first", &[&[5, 6], &[6, 5], &[5, 5]]),
            // Attention reads a whole tile, so what stands before the bad token of a sequence may be NaN with it.
            group("second", &[&[5, 6], &[5, BAD], &[6, BAD, 5]]),
        ];
        let recorded = RecordedStep { step: 1, groups };
        let error = trainer.step(1, &Source::Recorded(&recorded), None).unwrap_err().at_step(1).to_string();
        let place = "step 1: prompt \"second\", completion 3, token ";
        assert!(error.starts_with(place) && error.contains(": logprobs is NaN"), "{error}");
        for (i, values) in before.iter().enumerate() {
            let now = trainer.policy.decoder.param_values(i);
            assert!(now.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()), "parameter {i}");
        }
    }

    #[test]
    fn a_supervised_example_is_named_by_its_row() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        let bad = &Policy::CHARACTERS[BAD as usize..=BAD as usize];
        let rows = [("a", "bc"), ("b", bad), ("c", "de")];
        let text: String = rows
            .iter()
            .map(|(id, what)| {
                format!("{}\n", serde_json::json!({"id": id, "prompt": "p", "answer": format!("{what}x")}))
            })
            .collect();
        std::fs::write(&path, text).unwrap();
        let data = format!(
            "kind = \"jsonl\"\npath = {:?}\ncompletion = \"{{{{ answer }}}}\"",
            path.to_str().unwrap()
        );
        let source = TaskSource::open("rows", &toml::from_str(&data).unwrap(), 1).unwrap();
        let config: SftConfig = toml::from_str("data = \"rows\"\nbatch = 3\nmicro_batch = 2").unwrap();
        let mut trainer = SftTrainer::new(broken_policy(), &config, (1, 1));
        let error = trainer.step(1, &(&source).into(), 0).unwrap_err().to_string();
        assert!(error.contains("rows.jsonl:2 (b), token 2: its log-probability is NaN"), "{error}");
    }
}
