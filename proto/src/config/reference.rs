//! The tables as a page for people.

use std::fmt::Write;

use super::definitions::{ConfigDef, Effect, Kind, Update, Valid, broker, topic};

/// A reference of every key, as Markdown.
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# Configuration reference\n\n\
         Printed by `ottla config` from the tables that the server itself reads. Names, types, \
         defaults and ranges are those of Kafka 4.1. The column *effect* says what Ottla does with a \
         key:\n\n\
         - *honoured*: what it says.\n\
         - *in part*: this much of it. Any valid value is accepted.\n\
         - *none*: nothing, for this reason. Any valid value is accepted, and the server says at \
         its start which of these keys were set.\n\
         - *only* these values are accepted, for this reason.\n\
         - *not built*: only the default or an empty value is accepted.\n\n\
         A value that is malformed or out of range is refused whatever the effect.\n\n\
         ## Topic configs\n\n\
         Set with CreateTopics, AlterConfigs or IncrementalAlterConfigs. A topic without a value of \
         its own takes the broker's.\n\n\
         | config | type | default | values | broker's default | effect | what it is |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for def in topic::TOPIC {
        let from: Vec<_> = def
            .synonyms
            .iter()
            .map(|s| format!("`{}`", s.key))
            .collect();
        row(&mut page, def, &from.join(", "));
    }
    page.push_str(
        "\n## Keys of server.properties\n\n\
         A key marked *dynamic* may also be altered while the broker runs.\n\n\
         | key | type | default | values | dynamic | effect | what it is |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for def in broker::all() {
        let dynamic = match def.update {
            Update::ReadOnly => "",
            Update::PerBroker => "per broker",
            Update::ClusterWide => "cluster-wide",
        };
        row(&mut page, def, dynamic);
    }
    page
}

fn row(page: &mut String, def: &ConfigDef, fifth: &str) {
    let kind = match def.kind {
        Kind::Boolean => "boolean",
        Kind::String => "string",
        Kind::Int => "int",
        Kind::Short => "short",
        Kind::Long => "long",
        Kind::Double => "double",
        Kind::List => "list",
        Kind::Class => "class",
        Kind::Password => "password",
    };
    let default = match def.default {
        None => "unset".to_owned(),
        Some("") => "empty".to_owned(),
        Some(value) => format!("`{value}`"),
    };
    let valid = match def.valid {
        Valid::Any => String::new(),
        Valid::NonEmpty => "not empty".to_owned(),
        Valid::AtLeast(least) => format!("at least {least}"),
        Valid::Between(least, most) => format!("{least} to {most}"),
        Valid::Ratio(least, most) => format!("{least} to {most}"),
        Valid::OneOf(known) => format!("one of {}", known.join(", ")),
        Valid::EachOf(known) => format!("any of {}", known.join(", ")),
    };
    let effect = match def.effect {
        Effect::Honoured => "honoured".to_owned(),
        Effect::Partly(what) => format!("in part: {what}"),
        Effect::NoEffect(why) => format!("none: {why}"),
        Effect::Only(accepted, why) => format!("only `{}`: {why}", accepted.join("`, `")),
        Effect::NotBuilt(what) => format!("not built: {what}"),
    };
    let cells = [
        format!("`{}`", def.name),
        kind.to_owned(),
        default,
        valid,
        fifth.to_owned(),
        effect,
        def.doc.to_owned(),
    ];
    for cell in cells {
        write!(page, "| {} ", cell.replace('|', "\\|")).expect("a String takes everything");
    }
    page.push_str("|\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_row_with_all_cells() {
        let page = reference_markdown();
        let rows: Vec<_> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        assert_eq!(rows.len(), topic::TOPIC.len() + broker::all().count());
        for row in rows {
            let cells = row.replace("\\|", "").matches('|').count();
            assert_eq!(cells, 8, "{row}");
        }
    }
}
