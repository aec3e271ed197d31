//! JSON values that count every look at them.
//!
//! The validator is generic over how instances are represented. This representation borrows a [`Value`] and takes one
//! step from a budget for each access, more for texts, comparisons and hashes. Whatever the schema is, validation cannot go on
//! without accesses, so the budget bounds its time, and with it the memory of caches and errors. Each access also looks how
//! deep the stack is. When either is used up the validation is unwound.
//!
//! Which texts are matched with which pattern is not known here, so every text and name pays for the largest pattern of the
//! schema. They may be as long together as one text that [`crate::pattern`] matches: 256 KB beside a pattern of 1,000 places.

use std::borrow::Cow;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object, cmp, unique};
use serde_json::{Map, Number, Value};

/// What a validation of this thread may still use.
#[derive(Clone, Copy)]
struct Budget {
    steps: u64,
    /// Places of the largest pattern that a text may be matched with.
    places: u64,
    /// The address that the stack must not grow below.
    floor: usize,
}

thread_local! {
    static LEFT: Cell<Budget> = const { Cell::new(Budget { steps: 0, places: 0, floor: 0 }) };
}

/// Bytes of a text that cost a step when nothing is matched, and bytes times places that do when something is: a place is
/// done with sooner than anything else.
const BYTES: u64 = 16;
const PLACES: u64 = 128;

/// Ends a validation.
struct Exhausted;

/// Where the stack is, about.
fn stack_address() -> usize {
    let here = 0u8;
    std::ptr::from_ref(&here) as usize
}

/// Takes steps from the budget.
fn spend(steps: u64) {
    let left = LEFT.get();
    match left.steps.checked_sub(steps) {
        Some(steps) if stack_address() > left.floor => LEFT.set(Budget { steps, ..left }),
        // No panic: nothing went wrong, and no hook has to hear of it.
        _ => resume_unwind(Box::new(Exhausted)),
    }
}

fn spend_text(text: &str) {
    let bytes = text.len() as u64;
    spend(1 + (bytes / BYTES).max(bytes.saturating_mul(LEFT.get().places) / PLACES));
}

/// Does `work` on counted values of this thread and gives its result with the steps it took; none when there were more than
/// `budget`, or when it nested so deeply that `stack` bytes did not suffice. The largest pattern that a text may be matched
/// with has so many `places`.
pub(super) fn within<T>(
    budget: u64,
    places: u64,
    stack: usize,
    work: impl FnOnce() -> T,
) -> Option<(T, u64)> {
    let floor = stack_address().saturating_sub(stack);
    LEFT.set(Budget { steps: budget, places, floor });
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => Some((result, budget - LEFT.get().steps)),
        Err(end) if end.is::<Exhausted>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// Spends as many steps as `value` has parts, times `times`.
fn spend_parts(value: &Value, times: u64) {
    spend(times);
    match value {
        Value::Array(items) => items.iter().for_each(|item| spend_parts(item, times)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            spend_text(name);
            spend_parts(member, times);
        }),
        Value::String(text) => spend(times.saturating_mul(text.len() as u64) / BYTES),
        _ => {}
    }
}

/// The representation.
pub(super) struct CountedJson;

/// A value that counts.
#[derive(Clone, Copy)]
pub(super) struct Counted<'a>(pub(super) &'a Value);

/// An object that counts.
pub(super) struct Members<'a>(&'a Map<String, Value>);

/// An array that counts.
pub(super) struct Items<'a>(&'a [Value]);

impl Json for CountedJson {
    type Node<'a> = Counted<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;

    fn prepare_key(key: &str) -> String {
        key.to_string()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(Counted<'_>) -> T) -> T {
        spend_text(string);
        *buffer = Value::String(string.to_string());
        f(Counted(buffer))
    }
}

impl<'a> Node<'a, CountedJson> for Counted<'a> {
    type Object = Members<'a>;
    type Array = Items<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Members<'a>> {
        spend(1);
        self.0.as_object().map(Members)
    }

    fn as_array(&self) -> Option<Items<'a>> {
        spend(1);
        self.0.as_array().map(|items| Items(items))
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.0.as_str();
        spend_text(text.unwrap_or_default());
        text.map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        spend(1);
        self.0.as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        spend(1);
        self.0.as_bool()
    }

    fn is_null(&self) -> bool {
        spend(1);
        self.0.is_null()
    }

    fn json_type(&self) -> JsonType {
        spend(1);
        match self.0 {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn string_length(&self) -> Option<u64> {
        let text = self.0.as_str()?;
        spend(1 + text.len() as u64 / BYTES);
        Some(text.chars().count() as u64)
    }

    fn equals_value(&self, expected: &Value) -> bool {
        let same_size = match (self.0, expected) {
            (Value::Array(a), Value::Array(b)) => a.len() == b.len(),
            (Value::Object(a), Value::Object(b)) => a.len() == b.len(),
            (Value::String(a), Value::String(b)) => a.len() == b.len(),
            _ => true,
        };
        spend(1);
        // The comparison ends at the first difference, at the latest with the smaller of the two.
        same_size && {
            spend_parts(expected, 1);
            cmp::equal(self.0, expected)
        }
    }

    fn to_value(&self) -> Cow<'a, Value> {
        spend(1);
        Cow::Borrowed(self.0)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        spend(1);
        Some(NodeIdentity::new(std::ptr::from_ref(self.0) as usize))
    }
}

impl<'a> Object<'a, CountedJson> for Members<'a> {
    type Node = Counted<'a>;
    type MemberName = &'a str;
    type MembersIter = MembersIter<'a>;

    fn len(&self) -> usize {
        spend(1);
        self.0.len()
    }

    fn get(&self, key: &String) -> Option<Counted<'a>> {
        spend(1);
        self.0.get(key).map(Counted)
    }

    fn members(&self) -> MembersIter<'a> {
        spend(1);
        MembersIter(self.0.iter())
    }
}

/// The members of an object, in order.
pub(super) struct MembersIter<'a>(serde_json::map::Iter<'a>);

impl<'a> Iterator for MembersIter<'a> {
    type Item = (&'a str, Counted<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.0.next()?;
        spend_text(name);
        Some((name, Counted(value)))
    }
}

impl<'a> Array<'a, CountedJson> for Items<'a> {
    type Node = Counted<'a>;
    type ElementsIter = ItemsIter<'a>;

    fn len(&self) -> usize {
        spend(1);
        self.0.len()
    }

    fn elements(&self) -> ItemsIter<'a> {
        spend(1);
        ItemsIter(self.0.iter())
    }

    fn is_unique(&self) -> bool {
        // Short arrays are compared pair by pair, long ones by hashes.
        let times = if self.0.len() <= 16 { self.0.len() as u64 } else { 4 };
        self.0.iter().for_each(|item| spend_parts(item, times));
        unique::is_unique(self.0)
    }
}

/// The items of an array, in order.
pub(super) struct ItemsIter<'a>(std::slice::Iter<'a, Value>);

impl<'a> Iterator for ItemsIter<'a> {
    type Item = Counted<'a>;

    fn next(&mut self) -> Option<Counted<'a>> {
        let item = self.0.next()?;
        spend(1);
        Some(Counted(item))
    }
}
