//! Pages of lists, newest first: `?limit=..&cursor=..`.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::problem::Problem;
use crate::ids::{IdKind, Ids};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 100;

/// The requested part of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageRequest {
    pub(super) before: Option<i64>,
    pub(super) limit: usize,
}

impl PageRequest {
    pub(super) fn read(
        ids: Ids,
        kind: IdKind,
        limit: Option<usize>,
        cursor: Option<&str>,
    ) -> Result<Self, Problem> {
        let page = Self::new(limit)?;
        let before = cursor
            .map(|cursor| {
                ids.parse(kind, cursor).ok_or_else(|| {
                    Problem::invalid(format!("cursor {cursor:?} is not a 'next_cursor' of this list"))
                })
            })
            .transpose()?;
        Ok(Self { before, ..page })
    }

    /// The first page of a list.
    pub(super) fn new(limit: Option<usize>) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::invalid(format!("limit is {limit}; it must be between 1 and {MAX_LIMIT}")));
        }
        Ok(Self { before: None, limit })
    }

    /// Returns the number of rows to fetch: one row more than requested shows whether there is a next page.
    pub(super) const fn fetch(self) -> usize {
        self.limit + 1
    }

    /// Returns the page that is made of the fetched rows. A row without a view is left out.
    pub(super) fn answer<Row, View>(
        self,
        mut rows: Vec<Row>,
        id: impl Fn(&Row) -> String,
        view: impl Fn(Row) -> Option<View>,
    ) -> ListResponse<View> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next_cursor = if more { rows.last().map(id) } else { None };
        ListResponse::new(rows.into_iter().filter_map(view), next_cursor)
    }

    /// Like [`answer`](Self::answer), for a list that stopped at the row `stopped_at`, if it looked at enough rows.
    pub(super) fn answer_of_scan<Row, View>(
        self,
        rows: Vec<Row>,
        stopped_at: Option<String>,
        id: impl Fn(&Row) -> String,
        view: impl Fn(Row) -> Option<View>,
    ) -> ListResponse<View> {
        let response = self.answer(rows, id, view);
        match stopped_at {
            Some(cursor) if response.next_cursor.is_none() => response.continued_at(cursor),
            _ => response,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ListResponse<View> {
    items: Vec<View>,
    /// The value of `cursor` for the next page; null on the last page.
    next_cursor: Option<String>,
    /// `true` if relay looked at enough rows before it found a full page. `next_cursor` continues.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl<View: ToSchema> PartialSchema for ListResponse<View> {
    fn schema() -> RefOr<Schema> {
        let cursor = ObjectBuilder::new()
            .schema_type([Type::String, Type::Null].into_iter().collect::<SchemaType>())
            .description(Some("The value of `cursor` for the next page; `null` on the last page."));
        let partial = ObjectBuilder::new().schema_type(Type::Boolean).description(Some(
            "`true` if relay looked at enough rows before it found a full page; `next_cursor` continues. Absent \
             otherwise.",
        ));
        ObjectBuilder::new()
            .description(Some("A page of a list, newest first."))
            .property("items", ArrayBuilder::new().items(Ref::from_schema_name(View::name())))
            .property("next_cursor", cursor)
            .property("partial", partial)
            .required("items")
            .required("next_cursor")
            .into()
    }
}

impl<View: ToSchema> ToSchema for ListResponse<View> {
    fn name() -> Cow<'static, str> {
        format!("{}List", View::name().trim_end_matches("Item")).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((View::name().into_owned(), View::schema()));
        View::schemas(schemas);
    }
}

impl<View> ListResponse<View> {
    pub(super) fn new(items: impl IntoIterator<Item = View>, next_cursor: Option<String>) -> Self {
        Self { items: items.into_iter().collect(), next_cursor, partial: false }
    }

    /// Makes this a partial page, which continues at `cursor`.
    pub(super) fn continued_at(self, cursor: String) -> Self {
        Self { next_cursor: Some(cursor), partial: true, ..self }
    }
}
