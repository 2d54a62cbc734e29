//! The table of the parser's nodes: every kind of statement, expression and FROM item, and where it is handled.
//!
//! No arm is a wildcard: a parser that brings a new kind does not build until it is placed here. Guarantees: what is not
//! placed under [`Place::Read`] is refused where a tagged column is in its reach. Deliberately absent: the handling.

use super::problem::Problem;
use sqlparser::ast::{Expr, Statement, TableFactor};

/// Where a kind is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In `lineage`, which may still refuse some forms of it.
    Read,
    /// By its first words, before it is parsed: it shows and changes no column's values.
    Tokens,
    /// PostgreSQL has it; over tagged columns it is refused.
    Refused,
    /// Other databases' only.
    Foreign,
}

impl Place {
    /// The refusal of a kind that nothing else handled.
    pub(super) fn refusal(self, kind: &str) -> Problem {
        match self {
            Place::Read | Place::Tokens => Problem::not_understood(&format!("this form of {kind}")),
            Place::Refused | Place::Foreign => Problem::not_understood(kind),
        }
    }
}

/// Where a statement is handled.
pub(super) fn statement(statement: &Statement) -> Place {
    match statement {
        Statement::AlterPolicy(..)
        | Statement::AlterTable(..)
        | Statement::CreateIndex(..)
        | Statement::CreatePolicy(..)
        | Statement::CreateTable(..)
        | Statement::CreateTrigger(..)
        | Statement::CreateView(..)
        | Statement::Declare { .. }
        | Statement::Delete(..)
        | Statement::Execute { .. }
        | Statement::Explain { .. }
        | Statement::Insert(..)
        | Statement::Merge(..)
        | Statement::Prepare { .. }
        | Statement::Query(..)
        | Statement::Update(..) => Place::Read,
        Statement::AlterDefaultPrivileges(..)
        | Statement::AlterIndex { .. }
        | Statement::AlterRole { .. }
        | Statement::AlterTrigger(..)
        | Statement::Analyze(..)
        | Statement::Close { .. }
        | Statement::Comment { .. }
        | Statement::Commit { .. }
        | Statement::Copy { .. }
        | Statement::CreateRole(..)
        | Statement::CreateSequence { .. }
        | Statement::Deallocate { .. }
        | Statement::Discard { .. }
        | Statement::Drop { .. }
        | Statement::DropDomain(..)
        | Statement::DropExtension(..)
        | Statement::DropFunction(..)
        | Statement::DropOperator(..)
        | Statement::DropOperatorClass(..)
        | Statement::DropOperatorFamily(..)
        | Statement::DropPolicy(..)
        | Statement::DropProcedure { .. }
        | Statement::DropRule(..)
        | Statement::DropTrigger(..)
        | Statement::Fetch { .. }
        | Statement::Grant(..)
        | Statement::GrantRole(..)
        | Statement::LISTEN { .. }
        | Statement::Lock(..)
        | Statement::NOTIFY { .. }
        | Statement::RefreshMaterializedView(..)
        | Statement::ReleaseSavepoint { .. }
        | Statement::Reset(..)
        | Statement::Revoke(..)
        | Statement::RevokeRole(..)
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::Set(..)
        | Statement::ShowVariable { .. }
        | Statement::StartTransaction { .. }
        | Statement::Truncate(..)
        | Statement::UNLISTEN { .. }
        | Statement::Vacuum(..) => Place::Tokens,
        Statement::AlterCollation(..)
        | Statement::AlterFunction(..)
        | Statement::AlterOperator(..)
        | Statement::AlterOperatorClass(..)
        | Statement::AlterOperatorFamily(..)
        | Statement::AlterSchema(..)
        | Statement::AlterTextSearch(..)
        | Statement::AlterType(..)
        | Statement::AlterUser(..)
        | Statement::AlterView(..)
        | Statement::Call(..)
        | Statement::CreateAggregate(..)
        | Statement::CreateCollation(..)
        | Statement::CreateDatabase { .. }
        | Statement::CreateDomain(..)
        | Statement::CreateExtension(..)
        | Statement::CreateForeignDataWrapper(..)
        | Statement::CreateForeignTable(..)
        | Statement::CreateFunction(..)
        | Statement::CreateOperator(..)
        | Statement::CreateOperatorClass(..)
        | Statement::CreateOperatorFamily(..)
        | Statement::CreateProcedure { .. }
        | Statement::CreateRule(..)
        | Statement::CreateSchema { .. }
        | Statement::CreateServer(..)
        | Statement::CreateTextSearch(..)
        | Statement::CreateType { .. }
        | Statement::CreateUser(..)
        | Statement::CreateUserMapping(..)
        | Statement::Use(..) => Place::Refused,
        Statement::AlterConnector { .. }
        | Statement::AlterSession { .. }
        | Statement::Assert { .. }
        | Statement::AttachDatabase { .. }
        | Statement::AttachDuckDBDatabase { .. }
        | Statement::Cache { .. }
        | Statement::Case(..)
        | Statement::CopyIntoSnowflake { .. }
        | Statement::CreateConnector(..)
        | Statement::CreateFileFormat { .. }
        | Statement::CreateMacro { .. }
        | Statement::CreateSecret { .. }
        | Statement::CreateStage { .. }
        | Statement::CreateVirtualTable { .. }
        | Statement::CreateWarehouse(..)
        | Statement::Deny(..)
        | Statement::DetachDuckDBDatabase { .. }
        | Statement::Directory { .. }
        | Statement::DropConnector { .. }
        | Statement::DropSecret { .. }
        | Statement::ExplainTable { .. }
        | Statement::ExportData(..)
        | Statement::Flush { .. }
        | Statement::If(..)
        | Statement::Install { .. }
        | Statement::Kill { .. }
        | Statement::List(..)
        | Statement::Load { .. }
        | Statement::LoadData { .. }
        | Statement::LockTables { .. }
        | Statement::Msck(..)
        | Statement::Open(..)
        | Statement::OptimizeTable { .. }
        | Statement::Pragma { .. }
        | Statement::Print(..)
        | Statement::Put { .. }
        | Statement::RaisError { .. }
        | Statement::Raise(..)
        | Statement::Remove(..)
        | Statement::RenameTable(..)
        | Statement::Return(..)
        | Statement::ShowCatalogs { .. }
        | Statement::ShowCharset(..)
        | Statement::ShowCollation { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowCreate { .. }
        | Statement::ShowDatabases { .. }
        | Statement::ShowFunctions { .. }
        | Statement::ShowObjects(..)
        | Statement::ShowProcessList { .. }
        | Statement::ShowSchemas { .. }
        | Statement::ShowStatus { .. }
        | Statement::ShowTables { .. }
        | Statement::ShowVariables { .. }
        | Statement::ShowViews { .. }
        | Statement::Throw(..)
        | Statement::UNCache { .. }
        | Statement::Unload { .. }
        | Statement::UnlockTables
        | Statement::WaitFor(..)
        | Statement::While(..) => Place::Foreign,
    }
}

/// Where an expression is handled.
pub(super) fn expression(expr: &Expr) -> Place {
    match expr {
        Expr::AllOp { .. }
        | Expr::AnyOp { .. }
        | Expr::Array(..)
        | Expr::AtTimeZone { .. }
        | Expr::Between { .. }
        | Expr::BinaryOp { .. }
        | Expr::Case { .. }
        | Expr::Cast { .. }
        | Expr::Ceil { .. }
        | Expr::Collate { .. }
        | Expr::CompoundFieldAccess { .. }
        | Expr::CompoundIdentifier(..)
        | Expr::Cube(..)
        | Expr::Exists { .. }
        | Expr::Extract { .. }
        | Expr::Floor { .. }
        | Expr::Function(..)
        | Expr::GroupingSets(..)
        | Expr::ILike { .. }
        | Expr::Identifier(..)
        | Expr::In { .. }
        | Expr::Interval(..)
        | Expr::IsDistinctFrom(..)
        | Expr::IsFalse(..)
        | Expr::IsJson { .. }
        | Expr::IsNormalized { .. }
        | Expr::IsNotDistinctFrom(..)
        | Expr::IsNotFalse(..)
        | Expr::IsNotNull(..)
        | Expr::IsNotTrue(..)
        | Expr::IsNotUnknown(..)
        | Expr::IsNull(..)
        | Expr::IsTrue(..)
        | Expr::IsUnknown(..)
        | Expr::Like { .. }
        | Expr::Nested(..)
        | Expr::Overlay { .. }
        | Expr::Position { .. }
        | Expr::QualifiedWildcard(..)
        | Expr::Rollup(..)
        | Expr::SimilarTo { .. }
        | Expr::Subquery(..)
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Tuple(..)
        | Expr::TypedString(..)
        | Expr::UnaryOp { .. }
        | Expr::Value(..) => Place::Read,
        Expr::JsonAccess { .. } | Expr::Named { .. } | Expr::Prefixed { .. } | Expr::Wildcard(..) => {
            Place::Refused
        }
        Expr::Convert { .. }
        | Expr::Dictionary(..)
        | Expr::Lambda(..)
        | Expr::Map(..)
        | Expr::MatchAgainst { .. }
        | Expr::MemberOf(..)
        | Expr::OuterJoin(..)
        | Expr::Prior(..)
        | Expr::RLike { .. }
        | Expr::Struct { .. } => Place::Foreign,
    }
}

/// Where an item of FROM is handled.
pub(super) fn from_item(item: &TableFactor) -> Place {
    match item {
        TableFactor::Derived { .. }
        | TableFactor::Function { .. }
        | TableFactor::NestedJoin { .. }
        | TableFactor::Table { .. }
        | TableFactor::UNNEST { .. } => Place::Read,
        TableFactor::JsonTable { .. } | TableFactor::TableFunction { .. } | TableFactor::XmlTable { .. } => {
            Place::Refused
        }
        TableFactor::MatchRecognize { .. }
        | TableFactor::OpenJsonTable { .. }
        | TableFactor::Pivot { .. }
        | TableFactor::SemanticView { .. }
        | TableFactor::Unpivot { .. }
        | TableFactor::UnpivotExpr { .. } => Place::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Reading, parse, read};
    use super::*;

    #[test]
    fn what_is_placed_by_its_words_is_read_by_them() {
        for text in [
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app",
            "ALTER INDEX i RENAME TO j",
            "ALTER TRIGGER t ON customers RENAME TO u",
            "ANALYZE customers",
            "CLOSE c",
            "COMMENT ON TABLE customers IS 'x'",
            "CREATE SEQUENCE s OWNED BY customers.id",
            "DROP TABLE customers",
            "DROP FUNCTION f",
            "DROP POLICY p ON customers",
            "DROP TRIGGER t ON customers",
            "GRANT SELECT ON customers TO app",
            "LISTEN customers",
            "LOCK TABLE customers",
            "NOTIFY customers",
            "REFRESH MATERIALIZED VIEW customers",
            "REVOKE SELECT ON customers FROM app",
            "TRUNCATE customers",
            "VACUUM customers",
        ] {
            let parsed = parse::one(text, false).unwrap_or_else(|reason| panic!("{text}: {reason:?}"));
            assert_eq!(statement(&parsed.statement), Place::Tokens, "{text}");
            assert_eq!(read(text), Ok(Reading::Tokens), "{text}");
        }
    }

    #[test]
    fn what_is_placed_nowhere_else_is_parsed() {
        for text in ["CALL f()", "CREATE DOMAIN d AS text", "CREATE VIEW v AS SELECT 1", "SELECT 1"] {
            let parsed = parse::one(text, false).unwrap_or_else(|reason| panic!("{text}: {reason:?}"));
            assert_ne!(statement(&parsed.statement), Place::Tokens, "{text}");
            assert!(matches!(read(text), Ok(Reading::Parsed(_))), "{text}");
        }
    }
}
