//! The forms in which a value may be shown, and how policy.toml spells them. Data, not a right: only
//! [`Policy::decide`](super::Policy::decide) makes a disclosure of one.

use std::borrow::Cow;

/// What a rule says and a disclosure carries: data, not a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    Clear,
    Masked(Mask),
    /// NULL is shown.
    Withheld,
}

/// A mask of the closed set. `mask.rs` says what each shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    Redact,
    Zero,
    Partial(Ends),
    Email,
    Card(Ends),
    Iban,
    Phone,
    Year,
    Month,
    /// Multiples of this number, which is at least 2.
    Bucket(u32),
    Hash,
    Fake(Kind),
    Ff1,
}

/// How many characters are shown at each end; not none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    pub first: u8,
    pub last: u8,
}

/// What a made-up value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Name,
    FirstName,
    LastName,
    Email,
    Phone,
    City,
    Street,
    Company,
}

/// What PCI DSS (3.4.1) lets show of a card number.
const CARD_MOST: Ends = Ends { first: 6, last: 4 };

impl Form {
    /// One form of each kind, in the order that messages list them; `bucket` with a number for example.
    pub const ALL: [Form; 22] = [
        Form::Clear,
        Form::Withheld,
        Form::Masked(Mask::Redact),
        Form::Masked(Mask::Zero),
        Form::Masked(Mask::Partial(Ends::PARTIAL)),
        Form::Masked(Mask::Email),
        Form::Masked(Mask::Card(Ends::CARD)),
        Form::Masked(Mask::Iban),
        Form::Masked(Mask::Phone),
        Form::Masked(Mask::Year),
        Form::Masked(Mask::Month),
        Form::Masked(Mask::Bucket(10)),
        Form::Masked(Mask::Hash),
        Form::Masked(Mask::Ff1),
        Form::Masked(Mask::Fake(Kind::Name)),
        Form::Masked(Mask::Fake(Kind::FirstName)),
        Form::Masked(Mask::Fake(Kind::LastName)),
        Form::Masked(Mask::Fake(Kind::Email)),
        Form::Masked(Mask::Fake(Kind::Phone)),
        Form::Masked(Mask::Fake(Kind::City)),
        Form::Masked(Mask::Fake(Kind::Street)),
        Form::Masked(Mask::Fake(Kind::Company)),
    ];

    /// `clear`, `null` or `mask:…`, as policy.toml spells it.
    pub fn name(&self) -> Cow<'static, str> {
        let kind = self.kind();
        match self {
            Form::Masked(Mask::Partial(ends)) if *ends != Ends::PARTIAL => ends.after(kind),
            Form::Masked(Mask::Card(ends)) if *ends != Ends::CARD => ends.after(kind),
            Form::Masked(Mask::Bucket(width)) => Cow::Owned(format!("{kind}({width})")),
            Form::Clear | Form::Withheld | Form::Masked(_) => Cow::Borrowed(kind),
        }
    }

    /// As [`name`](Self::name), without numbers: the label of metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Form::Clear => "clear",
            Form::Withheld => "null",
            Form::Masked(mask) => match mask {
                Mask::Redact => "mask:redact",
                Mask::Zero => "mask:zero",
                Mask::Partial(_) => "mask:partial",
                Mask::Email => "mask:email",
                Mask::Card(_) => "mask:card",
                Mask::Iban => "mask:iban",
                Mask::Phone => "mask:phone",
                Mask::Year => "mask:year",
                Mask::Month => "mask:month",
                Mask::Bucket(_) => "mask:bucket",
                Mask::Hash => "mask:hash",
                Mask::Ff1 => "mask:ff1",
                Mask::Fake(Kind::Name) => "mask:fake:name",
                Mask::Fake(Kind::FirstName) => "mask:fake:first_name",
                Mask::Fake(Kind::LastName) => "mask:fake:last_name",
                Mask::Fake(Kind::Email) => "mask:fake:email",
                Mask::Fake(Kind::Phone) => "mask:fake:phone",
                Mask::Fake(Kind::City) => "mask:fake:city",
                Mask::Fake(Kind::Street) => "mask:fake:street",
                Mask::Fake(Kind::Company) => "mask:fake:company",
            },
        }
    }

    /// Reads [`name`](Self::name)'s spelling.
    ///
    /// # Errors
    /// What is wrong with it, and what may be written: a sentence each.
    pub fn read(name: &str) -> Result<Form, Misspelled> {
        let (kind, numbers) = match name.split_once('(') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (name, None),
        };
        let known = Form::ALL.into_iter().find(|form| form.kind() == kind).ok_or(Misspelled::Unknown)?;
        let numbers = numbers.map(numbers_in).transpose()?;
        match (known, numbers.as_deref()) {
            (Form::Masked(Mask::Bucket(_)), Some([width])) if *width >= 2 => {
                Ok(Form::Masked(Mask::Bucket(*width)))
            }
            (Form::Masked(Mask::Bucket(_)), _) => Err(Misspelled::Numbers(
                "mask:bucket(1000): a number of at least 2, of which multiples are shown",
            )),
            (form, None) => Ok(form),
            (Form::Masked(Mask::Partial(_)), Some([first, last])) => {
                let ends = Ends::read(*first, *last, Ends { first: 64, last: 64 });
                ends.map(|ends| Form::Masked(Mask::Partial(ends))).ok_or(Misspelled::Numbers(
                    "mask:partial(2,4): how many characters are shown first and last, up to 64 each and not none",
                ))
            }
            (Form::Masked(Mask::Card(_)), Some([first, last])) => Ends::read(*first, *last, CARD_MOST)
                .map(|ends| Form::Masked(Mask::Card(ends)))
                .ok_or(Misspelled::Numbers(
                    "mask:card(6,4): PCI DSS lets show the first 6 and the last 4 at most",
                )),
            (_, Some(_)) => Err(Misspelled::Numbers("it without these numbers")),
        }
    }

    /// As [`read`](Self::read).
    pub fn parse(name: &str) -> Option<Form> {
        Form::read(name).ok()
    }
}

/// Why a spelling is of no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misspelled {
    /// No form is called so.
    Unknown,
    /// The numbers in parentheses are not right; what to write.
    Numbers(&'static str),
}

fn numbers_in(rest: &str) -> Result<Vec<u32>, Misspelled> {
    let number = |text: &str| text.trim().parse().ok();
    let numbers = rest.strip_suffix(')').and_then(|inner| inner.split(',').map(number).collect());
    numbers.ok_or(Misspelled::Numbers("whole numbers in parentheses, with a comma between them"))
}

impl Ends {
    /// What `partial` and `card` show when nothing is said of it.
    pub const PARTIAL: Ends = Ends { first: 1, last: 1 };
    pub const CARD: Ends = Ends { first: 0, last: 4 };

    fn read(first: u32, last: u32, most: Ends) -> Option<Ends> {
        let ends = Ends { first: u8::try_from(first).ok()?, last: u8::try_from(last).ok()? };
        let fits = ends.first <= most.first && ends.last <= most.last && ends.shown() > 0;
        fits.then_some(ends)
    }

    /// How many characters are shown together.
    pub fn shown(&self) -> usize {
        usize::from(self.first) + usize::from(self.last)
    }

    fn after(&self, kind: &str) -> Cow<'static, str> {
        Cow::Owned(format!("{kind}({},{})", self.first, self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spelled_is_read() {
        for form in Form::ALL {
            assert_eq!(Form::read(&form.name()), Ok(form));
        }
        for (name, form) in [
            ("mask:partial", Mask::Partial(Ends::PARTIAL)),
            ("mask:partial(1, 1)", Mask::Partial(Ends::PARTIAL)),
            ("mask:partial(0,4)", Mask::Partial(Ends { first: 0, last: 4 })),
            ("mask:card(6,4)", Mask::Card(CARD_MOST)),
            ("mask:bucket(1000)", Mask::Bucket(1000)),
        ] {
            assert_eq!(Form::read(name), Ok(Form::Masked(form)), "{name}");
        }
    }

    #[test]
    fn what_shows_too_much_or_says_nothing_is_not() {
        for name in [
            "mask",
            "mask:",
            "mask:parts",
            "Clear",
            "",
            "mask:fake",
            "mask:fake:iban",
            "partial",
            "mask: card",
        ] {
            assert_eq!(Form::read(name), Err(Misspelled::Unknown), "{name}");
        }
        for name in [
            "mask:card(7,4)",
            "mask:card(6,5)",
            "mask:card(0,0)",
            "mask:card(4)",
            "mask:partial(0,0)",
            "mask:partial(65,0)",
            "mask:partial(-1,2)",
            "mask:partial(1,1",
            "mask:partial()",
            "mask:bucket",
            "mask:bucket(1)",
            "mask:bucket(0)",
            "mask:bucket(2.5)",
            "mask:year(2)",
            "clear(1)",
            "mask:hash(1)",
        ] {
            assert!(matches!(Form::read(name), Err(Misspelled::Numbers(_))), "{name}");
        }
    }
}
