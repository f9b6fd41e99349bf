//! What a configuration key is: the rows of the tables.

use regex::Regex;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl Kind {
    /// As Kafka writes it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// The key must be given.
    Required,
    Null,
    Text(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    High,
    Medium,
    Low,
}

impl Importance {
    pub fn name(self) -> &'static str {
        match self {
            Importance::High => "HIGH",
            Importance::Medium => "MEDIUM",
            Importance::Low => "LOW",
        }
    }
}

/// How wide a form shows the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    None,
    Short,
    Medium,
    Long,
}

impl Width {
    pub fn name(self) -> &'static str {
        match self {
            Width::None => "NONE",
            Width::Short => "SHORT",
            Width::Medium => "MEDIUM",
            Width::Long => "LONG",
        }
    }
}

/// What this runtime does with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Used,
    /// Accepted; it means nothing here, and this is why.
    WithoutEffect(&'static str),
    /// Not built: the key is an error, and this is why.
    Refused(&'static str),
    /// Only these values are built; any other is an error with this reason.
    Only(&'static [&'static str], &'static str),
}

/// What a value must be besides being of its kind.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    Any,
    OneOf(&'static [&'static str]),
    OneOfIgnoringCase(&'static [&'static str]),
    AtLeast(i64),
    Between(i64, i64),
    NonEmpty,
    NonEmptyList,
    /// Not empty, and no control character.
    Name,
    Regex,
    /// A list without duplicates.
    Aliases,
    By(fn(&str) -> Result<(), String>),
}

impl Check {
    /// What is wrong with the value, as the end of Kafka's sentence.
    pub fn fault(&self, text: &str) -> Option<String> {
        let number = || text.parse::<i64>().unwrap_or(i64::MIN);
        match *self {
            Check::Any => None,
            Check::OneOf(values) if values.contains(&text) => None,
            Check::OneOf(values) => Some(format!("String must be one of: {}", values.join(", "))),
            Check::OneOfIgnoringCase(values) => {
                let known = values.iter().any(|v| v.eq_ignore_ascii_case(text));
                (!known).then(|| {
                    let values = values.join(", ");
                    format!("String must be one of (case insensitive): {values}")
                })
            }
            Check::AtLeast(least) => {
                (number() < least).then(|| format!("Value must be at least {least}"))
            }
            Check::Between(least, most) if number() < least => {
                Some(format!("Value must be at least {least} and at most {most}"))
            }
            Check::Between(_, most) => {
                (number() > most).then(|| format!("Value must be no more than {most}"))
            }
            Check::NonEmpty => text.is_empty().then(|| "String must be non-empty".into()),
            Check::NonEmptyList => text.is_empty().then(|| "Empty list".into()),
            Check::Name if text.is_empty() => Some("String may not be empty".into()),
            Check::Name => text.chars().any(char::is_control).then(|| {
                "String may not contain control sequences but had the following ASCII chars".into()
            }),
            Check::Regex => Regex::new(text)
                .err()
                .map(|e| format!("Invalid regex: {e}").replace('\n', " ")),
            Check::Aliases => {
                let mut seen = std::collections::HashSet::new();
                let unique = super::settings::list(text)
                    .into_iter()
                    .all(|a| seen.insert(a));
                (!unique).then(|| "Duplicate alias provided.".into())
            }
            Check::By(check) => check(text).err(),
        }
    }
}

/// A row. The constructors are `const`, so that a table is data.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    pub default: DefaultValue,
    pub check: Check,
    pub importance: Importance,
    pub group: Option<&'static str>,
    pub width: Width,
    pub display: &'static str,
    pub doc: &'static str,
    pub recommended: &'static [&'static str],
    pub dependents: &'static [&'static str],
    pub effect: Effect,
}

impl Definition {
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: DefaultValue,
        importance: Importance,
        doc: &'static str,
    ) -> Definition {
        Definition {
            name,
            kind,
            default,
            check: Check::Any,
            importance,
            group: None,
            width: Width::None,
            display: name,
            doc,
            recommended: &[],
            dependents: &[],
            effect: Effect::Used,
        }
    }

    pub const fn check(mut self, check: Check) -> Definition {
        self.check = check;
        self
    }

    /// One of these; they are recommended too.
    pub const fn one_of(mut self, values: &'static [&'static str]) -> Definition {
        self.check = Check::OneOf(values);
        self.recommended = values;
        self
    }

    /// Where and how a form shows it.
    pub const fn shown(
        mut self,
        group: &'static str,
        width: Width,
        display: &'static str,
    ) -> Definition {
        self.group = Some(group);
        self.width = width;
        self.display = display;
        self
    }

    pub const fn recommend(mut self, values: &'static [&'static str]) -> Definition {
        self.recommended = values;
        self
    }

    pub const fn without_effect(mut self, why: &'static str) -> Definition {
        self.effect = Effect::WithoutEffect(why);
        self
    }

    pub const fn refused(mut self, why: &'static str) -> Definition {
        self.effect = Effect::Refused(why);
        self
    }

    pub const fn only(mut self, values: &'static [&'static str], why: &'static str) -> Definition {
        self.effect = Effect::Only(values, why);
        self
    }
}
