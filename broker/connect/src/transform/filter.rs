//! `Filter`: drops every record. It makes sense with a predicate.

use super::Transform;
use crate::config::{Definition, Settings};
use crate::data::SinkRecord;
use crate::error::ConnectError;

pub(super) const TABLE: &[Definition] = &[];

pub(super) struct Filter;

pub(super) fn build(_: &Settings) -> Result<Filter, ConnectError> {
    Ok(Filter)
}

impl Transform for Filter {
    fn apply(&mut self, _: SinkRecord) -> Result<Option<SinkRecord>, ConnectError> {
        Ok(None)
    }
}
