//! A reward as a Python object that is called as TRL calls its reward functions.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyFileNotFoundError, PyRuntimeError, PyRuntimeWarning, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rayon::{ThreadPool, ThreadPoolBuilder};
use rlvr_rewards::config::KINDS;
use rlvr_rewards::{Outcome, RewardConfig, TaskError, Verdict, score_batch};
use serde_json::{Map, Value, json};

use crate::columns::{Call, Rows, missing};
use crate::local::Local;
use crate::value::{to_json, to_python};

/// Threads that judge, of this process; as many as it has cores, or as `RAYON_NUM_THREADS` says.
static THREADS: Local<ThreadPool> = Local::new();

/// A reward; called with completions and columns by name.
#[pyclass(module = "rlvr.rewards", frozen)]
pub struct Reward {
    config: RewardConfig,
    name: Mutex<String>,
    /// Which column a field of the reference is read from.
    reading: Vec<(String, String)>,
    /// Whether a program of the user sees the whole row.
    with_meta: bool,
    built: Local<Box<dyn rlvr_rewards::Reward>>,
}

impl Reward {
    fn new(config: RewardConfig, reading: Vec<(String, String)>) -> PyResult<Self> {
        let built = config.clone().build().map_err(|e| PyValueError::new_err(e.to_string()))?;
        let name = Mutex::new(built.name().to_owned());
        let with_meta = has_kind(&as_json(&config), &["plugin", "python", "wasm"]);
        Ok(Self { config, name, reading, with_meta, built: Local::new() })
    }

    fn name(&self) -> String {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The reward of this process; what it needs, such as other programs, is started.
    fn built(&self) -> PyResult<&dyn rlvr_rewards::Reward> {
        let built = self.built.get(|| {
            let built = self.config.clone().build().map_err(|e| e.to_string())?;
            built.prepare().map_err(|e| e.to_string())?;
            Ok::<_, String>(built)
        });
        built.map(|built| &**built).map_err(PyRuntimeError::new_err)
    }

    fn judge(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        named: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<(Rows, Vec<Outcome>)> {
        let rows = Call::new(args, named)?.rows(&self.reading, self.with_meta)?;
        let outcomes = py.detach(|| {
            let reward = self.built()?;
            let threads = THREADS.get(|| ThreadPoolBuilder::new().build());
            let threads =
                threads.map_err(|e| PyRuntimeError::new_err(format!("no threads to judge with: {e}")))?;
            let items: Vec<_> = rows.rows.iter().map(|row| (&row.task, row.response())).collect();
            let outcomes = threads.install(|| score_batch(reward, &items));
            // A column that nobody gave is a mistake of the caller; a cell without a value is a task without a reference.
            let unjudged = outcomes.iter().position(|o| o.verdict == Verdict::Unverifiable);
            let wanted = unjudged.and_then(|i| match reward.check_task(items[i].0) {
                Err(TaskError::MissingField { field, .. }) => Some(field),
                _ => None,
            });
            let absent = |field: &&str| !rows.names.iter().any(|name| name == field || name == "reference");
            match wanted.filter(absent) {
                Some(field) => Err(missing(field, rows.names.clone(), &rows.unusable)),
                None => Ok(outcomes),
            }
        })?;
        let broken: Vec<_> = outcomes.iter().filter(|o| o.verdict == Verdict::Error).collect();
        if let Some(first) = broken.first() {
            let (count, n) = (broken.len(), outcomes.len());
            let message = format!(
                "reward {} broke for {count} of {n} completions, which get None: {}",
                self.name(),
                first.reason
            );
            let message = CString::new(message.replace('\0', " ")).unwrap_or_default();
            PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &message, 1)?;
        }
        Ok((rows, outcomes))
    }
}

#[pymethods]
impl Reward {
    /// One score a completion; None where the task cannot be judged or the reward broke.
    #[pyo3(signature = (*args, **columns))]
    fn __call__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        columns: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<Option<f64>>> {
        let (_, outcomes) = self.judge(py, args, columns)?;
        Ok(outcomes.into_iter().map(|outcome| outcome.score).collect())
    }

    /// One dictionary a completion: score, verdict, extracted, reason, method, gold, prediction, and parts where the
    /// reward has some, as `rlvr score` writes them.
    #[pyo3(signature = (*args, **columns))]
    fn verdicts<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        columns: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let (rows, outcomes) = self.judge(py, args, columns)?;
        let row = |(row, outcome): (&rlvr_rewards::rows::CompletionRow, &Outcome)| {
            let mut row = row.output(outcome);
            if let Value::Object(fields) = &mut row {
                fields.shift_remove("id");
            }
            to_python(py, &row)
        };
        rows.rows.iter().zip(&outcomes).map(row).collect()
    }

    /// The same reward, with fields of the reference read from columns of other names: `reading(answer="solution")`.
    #[pyo3(signature = (**columns))]
    fn reading(&self, columns: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut reading = self.reading.clone();
        for (field, column) in columns.into_iter().flat_map(|columns| columns.iter()) {
            let field: String = field.extract()?;
            let column: String = column.extract().map_err(|_| {
                PyTypeError::new_err(format!("reading({field}=…) takes the name of a column"))
            })?;
            reading.retain(|(known, _)| *known != field);
            reading.push((field, column));
        }
        let new = Self::new(self.config.clone(), reading)?;
        *new.name.lock().unwrap_or_else(PoisonError::into_inner) = self.name();
        Ok(new)
    }

    /// What the reward is called in metrics.
    #[getter(__name__)]
    fn get_name(&self) -> String {
        self.name()
    }

    #[setter(__name__)]
    fn set_name(&self, name: String) {
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// The settings, as they stand in a config.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &as_json(&self.config))
    }

    fn __repr__(&self) -> String {
        format!("<reward {}: {}>", self.name(), as_json(&self.config))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let restore = py.import("rlvr._rlvr")?.getattr("restored")?;
        let config = as_json(&self.config).to_string();
        let state = (config, self.name(), self.reading.clone()).into_pyobject(py)?;
        (restore, state).into_pyobject(py)
    }
}

fn as_json(config: &RewardConfig) -> Value {
    json!(config)
}

fn has_kind(config: &Value, kinds: &[&str]) -> bool {
    match config {
        Value::Object(fields) => {
            fields.get("kind").and_then(Value::as_str).is_some_and(|kind| kinds.contains(&kind))
                || fields.values().any(|field| has_kind(field, kinds))
        }
        Value::Array(items) => items.iter().any(|item| has_kind(item, kinds)),
        _ => false,
    }
}

/// Settings with the rewards in them: a `Reward` stands for its own settings.
fn setting(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(reward) = value.cast::<Reward>() {
        return Ok(as_json(&reward.get().config));
    }
    if let Ok(fields) = value.cast::<PyDict>() {
        let field =
            |(key, field): (Bound<'_, PyAny>, Bound<'_, PyAny>)| Ok((key.extract()?, setting(&field)?));
        return fields.iter().map(field).collect::<PyResult<Map<_, _>>>().map(Value::Object);
    }
    if let Ok(items) = value.cast::<pyo3::types::PyList>() {
        return items.iter().map(|item| setting(&item)).collect::<PyResult<_>>().map(Value::Array);
    }
    to_json(value).map_err(|why| PyTypeError::new_err(format!("a setting {why}")))
}

/// The reward of a kind, with settings as in a config: `make("numeric", relative=0.01)`.
#[pyfunction]
#[pyo3(signature = (kind, /, **settings))]
pub fn make(kind: &str, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Reward> {
    let wrong = |e: String| PyValueError::new_err(e);
    if !KINDS.contains(&kind) {
        let unknown = RewardConfig::from_kind(kind).err().map_or(String::new(), |e| e.to_string());
        return Err(wrong(unknown));
    }
    let mut fields = Map::new();
    fields.insert("kind".into(), kind.into());
    for (name, value) in settings.into_iter().flat_map(|settings| settings.iter()) {
        fields.insert(name.extract()?, setting(&value)?);
    }
    let config: Result<RewardConfig, _> = serde_json::from_value(Value::Object(fields));
    let mut config = config.map_err(|e| wrong(format!("reward {kind}: {e}")))?;
    config.resolve_paths(&std::env::current_dir().unwrap_or_default());
    Reward::new(config, Vec::new())
}

/// The reward of a TOML document with a table `[rewards]`, or that is one itself: its path, or its text.
#[pyfunction]
#[pyo3(signature = (document, /))]
pub fn from_toml(document: &Bound<'_, PyAny>) -> PyResult<Reward> {
    let text: Option<String> = document.extract().ok();
    let (name, text, base) = match text.filter(|text| text.contains(['\n', '='])) {
        Some(text) => ("<text>".to_owned(), text, std::env::current_dir().unwrap_or_default()),
        None => {
            let path: PathBuf = document.extract()?;
            let name = path.display().to_string();
            let text = std::fs::read_to_string(&path).map_err(|e| {
                PyFileNotFoundError::new_err(format!(
                    "{name}: {e}; give the path of a TOML file, or its text"
                ))
            })?;
            let base = std::path::absolute(&path)?.parent().map_or_else(PathBuf::new, Path::to_path_buf);
            (name, text, base)
        }
    };
    let read = RewardConfig::from_toml(&text, &name, &base);
    let (config, _) = read.map_err(|e| PyValueError::new_err(e.to_string()))?;
    Reward::new(config, Vec::new())
}

/// A reward as it was pickled.
#[pyfunction]
pub fn restored(config: &str, name: String, reading: Vec<(String, String)>) -> PyResult<Reward> {
    let config = serde_json::from_str(config).map_err(|e| PyValueError::new_err(e.to_string()))?;
    let reward = Reward::new(config, reading)?;
    *reward.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
    Ok(reward)
}
