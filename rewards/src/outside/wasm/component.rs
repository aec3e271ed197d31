//! A loaded component: from a file to outcomes.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    self, ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Linker, Lower, TypedFunc,
};
use wasmtime::{Store, Trap};

use super::contract::{Item, JUDGE, Judgement, PromptMessage};
use super::host::{self, State, TICK};
use super::{WasmConfig, vet};
use crate::outside::plugin::protocol::{MAX_REASON, shorten};
use crate::reward::{Outcome, Verdict};
use crate::task::{Response, Task};

/// Most text that an instance may hand over in one call, in bytes.
const MAX_TEXT: usize = 1 << 20;

pub(super) fn available() -> Result<(), String> {
    Ok(())
}

pub(super) struct Component {
    config: WasmConfig,
    /// The `config` of the config, as JSON.
    settings: String,
    instance: InstancePre<State>,
    init: ComponentExportIndex,
    score: ComponentExportIndex,
}

/// Why an item has no outcome.
enum Failure {
    /// The code broke, or a limit was met.
    Broke(wasmtime::Error),
    /// The code says so.
    Refused(String),
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Self::Broke(error)
    }
}

impl Component {
    /// Reads, checks and compiles a component, and calls its `init` once.
    ///
    /// # Errors
    /// What is wrong with the file, the component, or its config.
    pub fn load(config: &WasmConfig) -> Result<Self, String> {
        let bytes = vet::read(&config.path)?;
        let engine = host::engine().map_err(|e| format!("no WebAssembly engine: {e:#}"))?;
        let invalid = |e: wasmtime::Error| format!("it is not a valid component: {e:#}");
        let component = component::Component::from_binary(&engine, &bytes).map_err(invalid)?;
        vet::stoppable(&bytes)?;

        let imports = component.component_type();
        let foreign = |(name, item): &(&str, ComponentItem)| {
            *name != "log" || !matches!(item, ComponentItem::ComponentFunc(_))
        };
        if let Some((name, _)) = imports.imports(&engine).find(foreign) {
            return Err(format!(
                "it imports {name:?}, and a reward may import the function \"log\" and nothing else; \
                 build it without WASI, for wasm32-unknown-unknown"
            ));
        }
        let mut linker = Linker::new(&engine);
        host::link_log(&mut linker, &config.name).map_err(|e| format!("{e:#}"))?;
        let instance = linker.instantiate_pre(&component).map_err(|e| format!("{e:#}"))?;
        let judge = component.get_export_index(None, JUDGE);
        let export = |name: &str| {
            let found = judge.and_then(|judge| component.get_export_index(Some(&judge), name));
            found.ok_or_else(|| format!("it does not export {name:?} of the interface \"{JUDGE}\""))
        };
        let (init, score) = (export("init")?, export("score")?);
        let settings = serde_json::to_string(&config.config).map_err(|e| e.to_string())?;

        let loaded = Self { config: config.clone(), settings, instance, init, score };
        let mut store = loaded.store().map_err(|e| loaded.reason(Failure::Broke(e)))?;
        loaded.try_out(&mut store).map_err(|failure| loaded.reason(failure))?;
        Ok(loaded)
    }

    /// One outcome, from a new instance.
    pub fn judge(&self, task: &Task, response: Response<'_>) -> Outcome {
        let error = |failure| Outcome::of(Verdict::Error, "wasm", self.reason(failure));
        let mut store = match self.store() {
            Ok(store) => store,
            Err(e) => return error(Failure::Broke(e)),
        };
        let outcome = self.ask(&mut store, task, response).unwrap_or_else(error);
        let left = store.get_fuel().unwrap_or(0);
        outcome.with_work(self.config.fuel.saturating_sub(left))
    }

    /// The room for a new instance.
    fn store(&self) -> wasmtime::Result<Store<State>> {
        let mut store = Store::new(self.instance.engine(), State::new(self.config.memory_mb));
        store.limiter(|state| &mut state.limits);
        store.set_fuel(self.config.fuel)?;
        let ticks = self.config.timeout_s / TICK.as_secs_f64();
        store.set_epoch_deadline(ticks.ceil() as u64 + 1);
        store.set_hostcall_fuel(MAX_TEXT);
        Ok(store)
    }

    /// A new instance with its config.
    fn start(&self, store: &mut Store<State>) -> Result<Instance, Failure> {
        let instance = self.instance.instantiate(&mut *store)?;
        let init = typed::<(&str,), (Result<(), String>,)>(store, instance, self.init)?;
        let (answer,) = init.call(&mut *store, (&self.settings,))?;
        init.post_return(&mut *store)?;
        answer.map_err(|why| Failure::Refused(format!("it refuses its config: {why}")))?;
        Ok(instance)
    }

    /// Starts an instance and looks at the types of its exports.
    fn try_out(&self, store: &mut Store<State>) -> Result<(), Failure> {
        let instance = self.start(store)?;
        typed::<(Item<'_>,), (Result<Judgement, String>,)>(store, instance, self.score)?;
        Ok(())
    }

    fn ask(&self, store: &mut Store<State>, task: &Task, response: Response<'_>) -> Result<Outcome, Failure> {
        let text = |e: serde_json::Error| Failure::Refused(format!("the item has no JSON form: {e}"));
        let reference = serde_json::to_string(&task.reference).map_err(text)?;
        let meta = serde_json::to_string(&task.meta).map_err(text)?;
        let prompt: Vec<PromptMessage<'_>> = task.prompt.iter().map(PromptMessage::of).collect();
        let item = Item::new(task, response, &prompt, [&reference, &meta]);

        let instance = self.start(store)?;
        let score = typed::<(Item<'_>,), (Result<Judgement, String>,)>(store, instance, self.score)?;
        // The instance ends here, so nothing is left to be cleaned up in it.
        let (answer,) = score.call(store, (item,))?;
        let judgement = answer.map_err(Failure::Refused)?;
        judgement.outcome().map_err(|why| Failure::Refused(format!("its judgement {why}")))
    }

    fn reason(&self, failure: Failure) -> String {
        let error = match failure {
            Failure::Refused(reason) => return shorten(&reason, MAX_REASON),
            Failure::Broke(error) => error,
        };
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => format!("it used up its fuel = {}", self.config.fuel),
            Some(Trap::Interrupt) => format!("it ran longer than timeout_s = {}", self.config.timeout_s),
            Some(Trap::StackOverflow) => "its stack overflowed".into(),
            Some(Trap::UnreachableCodeReached) => {
                "it panicked or aborted (`unreachable` was executed)".into()
            }
            Some(trap) => format!("it broke: {trap}"),
            None => shorten(&error.root_cause().to_string(), MAX_REASON),
        }
    }
}

/// An exported function with the type that the contract gives it.
fn typed<Params, Results>(
    store: &mut Store<State>,
    instance: Instance,
    export: ComponentExportIndex,
) -> Result<TypedFunc<Params, Results>, Failure>
where
    Params: ComponentNamedList + Lower,
    Results: ComponentNamedList + Lift,
{
    let other = |e| Failure::Refused(format!("an export is not that of {JUDGE}: {e:#}"));
    instance.get_typed_func(store, export).map_err(other)
}
