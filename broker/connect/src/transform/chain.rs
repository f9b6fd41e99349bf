//! The transforms of a connector, one after the other, each with the predicate it asks first.

use super::operand::Side;
use super::registry::{self, TransformClass};
use super::{Predicate, Transform};
use crate::config::tables::{NULL, REQUIRED, high, medium, text};
use crate::config::validate::Validation;
use crate::config::{
    ConfigValue, Definition, Kind, Problem, Props, Settings, settings_list, with_prefix,
};
use crate::data::SinkRecord;
use crate::error::ConnectError;

const TYPE: &str = "type";
const PREDICATE: &str = "predicate";
const NEGATE: &str = "negate";

/// Keys of every transform, besides its own.
const OF_TRANSFORM: &[Definition] = &[
    high(TYPE, Kind::Class, REQUIRED, "Class of the transformation."),
    medium(
        PREDICATE,
        Kind::String,
        NULL,
        "Alias of the predicate that decides whether the transformation is applied.",
    ),
    medium(
        NEGATE,
        Kind::Boolean,
        text("false"),
        "Whether it is applied where the predicate does not hold.",
    ),
];

const OF_PREDICATE: &[Definition] = &[high(TYPE, Kind::Class, REQUIRED, "Class of the predicate.")];

struct Step {
    class: String,
    transform: Box<dyn Transform>,
    predicate: Option<Predicate>,
    negate: bool,
}

#[derive(Default)]
pub struct Chain(Vec<Step>);

/// A transform that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its class, for the dead letter.
    pub class: String,
    pub error: ConnectError,
}

impl Chain {
    /// From the keys of a connector; all problems at once.
    pub fn build(props: &Props) -> Result<Chain, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut steps = Vec::new();
        for alias in aliases(props, "transforms") {
            match step(props, &alias) {
                Ok(step) => steps.push(step),
                Err(error) => problems.push(Problem {
                    key: format!("transforms.{alias}.{TYPE}"),
                    message: error.to_string(),
                }),
            }
        }
        if problems.is_empty() {
            Ok(Chain(steps))
        } else {
            Err(problems)
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `None` if a transform drops the record.
    pub fn apply(&mut self, mut record: SinkRecord) -> Result<Option<SinkRecord>, Failed> {
        for step in &mut self.0 {
            let holds = step.predicate.as_ref().is_none_or(|p| p.test(&record));
            if holds == step.negate && (step.predicate.is_some() || step.negate) {
                continue;
            }
            let changed = step.transform.apply(record).map_err(|error| Failed {
                class: step.class.clone(),
                error,
            })?;
            match changed {
                Some(changed) => record = changed,
                None => return Ok(None),
            }
        }
        Ok(Some(record))
    }
}

fn aliases(props: &Props, key: &str) -> Vec<String> {
    settings_list(props.get(key).map_or("", String::as_str))
}

fn step(props: &Props, alias: &str) -> Result<Step, ConnectError> {
    let mut keys = with_prefix(props, &format!("transforms.{alias}."));
    let common = settings(OF_TRANSFORM, &keys)?;
    for def in OF_TRANSFORM {
        keys.shift_remove(def.name);
    }
    let (class, side) = registry::transform(common.required_text(TYPE))?;
    let own = Settings::parse_strictly(class.table, &keys)?;
    let predicate = match common.get(PREDICATE) {
        ConfigValue::String(alias) => Some(predicate(props, alias)?),
        _ => None,
    };
    let negate = common.boolean(NEGATE);
    if negate && predicate.is_none() {
        let message = format!("transforms.{alias}.negate needs transforms.{alias}.predicate");
        return Err(ConnectError::config(message));
    }
    Ok(Step {
        class: class_name(class, side),
        transform: (class.build)(side, &own)?,
        predicate,
        negate,
    })
}

fn class_name(class: &TransformClass, side: Side) -> String {
    match (class.sided, side) {
        (false, _) => class.class.to_owned(),
        (true, Side::Key) => format!("{}$Key", class.class),
        (true, Side::Value) => format!("{}$Value", class.class),
    }
}

fn predicate(props: &Props, alias: &str) -> Result<Predicate, ConnectError> {
    if !aliases(props, "predicates").iter().any(|a| a == alias) {
        let message = format!("No such predicate: {alias}; it must be one of \"predicates\"");
        return Err(ConnectError::config(message));
    }
    let mut keys = with_prefix(props, &format!("predicates.{alias}."));
    let common = settings(OF_PREDICATE, &keys)?;
    keys.shift_remove(TYPE);
    let class = registry::predicate(common.required_text(TYPE))?;
    (class.build)(&Settings::parse_strictly(class.table, &keys)?)
}

fn settings(table: &[Definition], keys: &Props) -> Result<Settings, ConnectError> {
    Settings::parse(table, keys).map_err(|problems| {
        let messages: Vec<_> = problems.into_iter().map(|p| p.message).collect();
        ConnectError::config(messages.join("; "))
    })
}

/// Checks all keys of transforms and predicates, each alias a group of its own.
pub fn validate(v: &mut Validation<'_>, props: &Props) {
    for alias in aliases(props, "transforms") {
        let prefix = format!("transforms.{alias}.");
        let group = format!("Transforms: {alias}");
        v.table(&prefix, OF_TRANSFORM, Some(&group));
        let class = props.get(&format!("{prefix}{TYPE}"));
        match class.map(|class| registry::transform(class)) {
            Some(Ok((class, _))) => {
                v.table(&prefix, class.table, Some(&group));
                let own = with_prefix(props, &prefix);
                // What only several keys together get wrong.
                if Settings::parse(class.table, &own).is_ok()
                    && let Err(error) = step(props, &alias)
                    && !error.message.starts_with("Configuration is not defined")
                {
                    v.error(&format!("{prefix}{TYPE}"), error.to_string());
                }
            }
            Some(Err(error)) => {
                v.error(&format!("{prefix}{TYPE}"), error.to_string());
                v.pass(&prefix);
            }
            None => v.pass(&prefix),
        }
    }
    for alias in aliases(props, "predicates") {
        let prefix = format!("predicates.{alias}.");
        let group = format!("Predicates: {alias}");
        v.table(&prefix, OF_PREDICATE, Some(&group));
        match props
            .get(&format!("{prefix}{TYPE}"))
            .map(|class| registry::predicate(class))
        {
            Some(Ok(class)) => v.table(&prefix, class.table, Some(&group)),
            Some(Err(error)) => {
                v.error(&format!("{prefix}{TYPE}"), error.to_string());
                v.pass(&prefix);
            }
            None => v.pass(&prefix),
        }
    }
}
