//! The closed table of types: how SQL spells them, and what `pg_type` says of them.

use super::DataType;

/// One line a type: SQL name as `format_type` prints it, OID, array OID, `typlen`.
const TYPES: &[(DataType, &str, u32, u32, i16)] = &[
    (DataType::Text, "text", 25, 1009, -1),
    (DataType::Varchar(None), "character varying", 1043, 1015, -1),
    (DataType::Smallint, "smallint", 21, 1005, 2),
    (DataType::Integer, "integer", 23, 1007, 4),
    (DataType::Bigint, "bigint", 20, 1016, 8),
    (DataType::Numeric(None), "numeric", 1700, 1231, -1),
    (DataType::Real, "real", 700, 1021, 4),
    (DataType::DoublePrecision, "double precision", 701, 1022, 8),
    (DataType::Boolean, "boolean", 16, 1000, 1),
    (DataType::Date, "date", 1082, 1182, 4),
    (DataType::Time, "time without time zone", 1083, 1183, 8),
    (DataType::Timestamp, "timestamp without time zone", 1114, 1115, 8),
    (DataType::Timestamptz, "timestamp with time zone", 1184, 1185, 8),
    (DataType::Interval, "interval", 1186, 1187, 16),
    (DataType::Uuid, "uuid", 2950, 2951, 16),
    (DataType::Bytea, "bytea", 17, 1001, -1),
    (DataType::Json, "json", 114, 199, -1),
    (DataType::Jsonb, "jsonb", 3802, 3807, -1),
    (DataType::Inet, "inet", 869, 1041, -1),
];

/// Other spellings that PostgreSQL's grammar accepts (`gram.y`, and the names in `pg_type`).
const SPELLINGS: &[(&str, &str)] = &[
    ("bool", "boolean"),
    ("decimal", "numeric"),
    ("dec", "numeric"),
    ("float", "double precision"),
    ("float4", "real"),
    ("float8", "double precision"),
    ("int", "integer"),
    ("int2", "smallint"),
    ("int4", "integer"),
    ("int8", "bigint"),
    ("time", "time without time zone"),
    ("timestamp", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("varchar", "character varying"),
];

impl DataType {
    /// Reads a type as SQL spells it: `varchar(320)`, `numeric(12,2)`, `timestamp with time zone`, `int`, …
    pub fn parse(sql: &str) -> Option<DataType> {
        let lower = sql.trim().to_ascii_lowercase();
        let squeezed = lower.split_whitespace().collect::<Vec<_>>().join(" ");
        let own = squeezed.strip_prefix("pg_catalog.").unwrap_or(&squeezed);
        let (name, arguments) = match own.split_once('(') {
            Some((name, rest)) => (name.trim(), Some(rest.strip_suffix(')')?)),
            None => (own, None),
        };
        let name = SPELLINGS.iter().find(|(other, _)| *other == name).map_or(name, |(_, known)| *known);
        let (base, ..) = TYPES.iter().find(|(_, known, ..)| *known == name)?;
        let Some(arguments) = arguments else { return Some(*base) };
        let numbers: Vec<i32> = arguments.split(',').map(|n| n.trim().parse().ok()).collect::<Option<_>>()?;
        match (base, numbers.as_slice()) {
            (DataType::Varchar(_), [length @ 1..=10_485_760]) => {
                Some(DataType::Varchar(u32::try_from(*length).ok()))
            }
            (DataType::Numeric(_), [precision @ 1..=1000]) => {
                Some(DataType::Numeric(Some((u16::try_from(*precision).ok()?, 0))))
            }
            (DataType::Numeric(_), [precision @ 1..=1000, scale @ -1000..=1000]) => {
                Some(DataType::Numeric(Some((u16::try_from(*precision).ok()?, i16::try_from(*scale).ok()?))))
            }
            _ => None,
        }
    }

    /// PostgreSQL's own spelling (`format_type`): `character varying(320)`.
    pub fn sql(&self) -> String {
        match self {
            DataType::Varchar(Some(length)) => format!("character varying({length})"),
            DataType::Numeric(Some((precision, scale))) => format!("numeric({precision},{scale})"),
            _ => self.family_name().to_owned(),
        }
    }

    /// The type's name without length or precision, as error messages give it.
    pub(crate) fn family_name(&self) -> &'static str {
        self.line().1
    }

    /// One name for all types whose equal values have equal canonical bytes.
    pub fn family(&self) -> &'static str {
        match self {
            DataType::Smallint | DataType::Integer | DataType::Bigint => DataType::Bigint.family_name(),
            DataType::Varchar(_) => DataType::Text.family_name(),
            other => other.family_name(),
        }
    }

    /// Every type, without lengths and precisions.
    pub fn families() -> impl Iterator<Item = DataType> {
        TYPES.iter().map(|(data_type, ..)| *data_type)
    }

    fn line(&self) -> &'static (DataType, &'static str, u32, u32, i16) {
        let base = match self {
            DataType::Varchar(_) => DataType::Varchar(None),
            DataType::Numeric(_) => DataType::Numeric(None),
            other => *other,
        };
        TYPES.iter().find(|(known, ..)| *known == base).expect("every variant has its line in TYPES")
    }

    /// The type's OID in `pg_type`.
    pub fn oid(&self) -> u32 {
        self.line().2
    }

    /// The OID of its array type.
    pub fn array_oid(&self) -> u32 {
        self.line().3
    }

    /// `pg_type.typlen`: bytes of a fixed-length type, -1 for a variable one.
    pub fn typlen(&self) -> i16 {
        self.line().4
    }

    /// `pg_attribute.atttypmod`: -1 when the type carries none (`varchar.c`, `numeric.c` `make_numeric_typmod`).
    pub fn typmod(&self) -> i32 {
        match self {
            DataType::Varchar(Some(length)) => i32::try_from(*length).unwrap_or(i32::MAX - 4) + 4,
            DataType::Numeric(Some((precision, scale))) => {
                (i32::from(*precision) << 16 | (i32::from(*scale) & 0x7ff)) + 4
            }
            _ => -1,
        }
    }

    /// The type that a client's declared parameter OID stands for; `None` for one that we do not convert from.
    /// `name`, `bpchar`, `varchar` and `unknown` (705, and 0) read as text; the padding of `bpchar` is the caller's to cut.
    pub fn from_oid(oid: u32) -> Option<DataType> {
        match oid {
            0 | 19 | 705 | 1042 => Some(DataType::Text),
            other => TYPES.iter().find(|(_, _, known, ..)| *known == other).map(|(data_type, ..)| *data_type),
        }
    }

    /// The element type of an array OID.
    pub fn from_array_oid(oid: u32) -> Option<DataType> {
        match oid {
            0 | 705 | 1002 | 1003 | 1014 => Some(DataType::Text),
            other => {
                TYPES.iter().find(|(_, _, _, array, _)| *array == other).map(|(data_type, ..)| *data_type)
            }
        }
    }

    /// Whether a column of `self` may belong to a domain of type `of` (same family, narrower or equal).
    pub fn narrows(&self, of: &DataType) -> bool {
        match (self, of) {
            (a, b) if a == b => true,
            (DataType::Varchar(_), DataType::Text | DataType::Varchar(None)) => true,
            (DataType::Text, DataType::Varchar(None)) => true,
            (DataType::Varchar(Some(own)), DataType::Varchar(Some(wide))) => own <= wide,
            (DataType::Smallint, DataType::Integer | DataType::Bigint) => true,
            (DataType::Integer, DataType::Bigint) => true,
            (DataType::Numeric(Some((own, scale))), DataType::Numeric(Some((wide, wide_scale)))) => {
                scale == wide_scale && own <= wide
            }
            _ => false,
        }
    }

    /// Why the type may not be sealed deterministically, or `Ok` when its canonical bytes agree with PostgreSQL's equality.
    pub fn deterministic(&self) -> Result<(), &'static str> {
        match self {
            DataType::Boolean => Err("two values hide nothing"),
            DataType::Real | DataType::DoublePrecision => Err("0 and -0 are equal but not the same"),
            DataType::Interval => Err("1 day and 24 hours are equal but not the same"),
            DataType::Json => Err("PostgreSQL has no equality for json"),
            DataType::Jsonb => Err("equal documents may have numbers of different scale"),
            DataType::Numeric(None) => Err("1.0 and 1.00 are equal but not the same; give it a scale"),
            _ => Ok(()),
        }
    }
}
