//! From the bytes of a record to what a sink is given: converters, then transforms.

use std::sync::Arc;

use super::{Failure, Stage};
use crate::converter::{Converters, Part};
use crate::data::{RawRecord, SinkRecord};
use crate::transform::Chain;

pub struct Pipeline {
    pub converters: Converters,
    pub transforms: Chain,
}

impl Pipeline {
    /// `None` if a transform drops the record.
    pub fn process(&mut self, raw: Arc<RawRecord>) -> Result<Option<SinkRecord>, Box<Failure>> {
        let converted = self.converters.convert(raw.clone());
        let record = converted.map_err(|(part, error)| {
            let (stage, class) = match part {
                Part::Key => (Stage::KeyConverter, self.converters.key.class_name()),
                Part::Value => (Stage::ValueConverter, self.converters.value.class_name()),
                Part::Header => (Stage::HeaderConverter, self.converters.header.class_name()),
            };
            Box::new(Failure {
                stage,
                class: class.to_owned(),
                error,
                record: raw.clone(),
            })
        })?;
        self.transforms.apply(record).map_err(|failed| {
            Box::new(Failure {
                stage: Stage::Transformation,
                class: failed.class,
                error: failed.error,
                record: raw,
            })
        })
    }
}
