//! What looks like personal data: by a column's name, and by sampled values.
//!
//! Guarantees: pure; a name is judged by its words, so that `cardinality` is no card and `email_verified` no address;
//! of values only counts come out. Deliberately absent: certainty. A column that nothing is said of may hold anything.

/// What a column looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Email,
    Phone,
    Iban,
    Card,
    CardCode,
    NationalId,
    TaxId,
    Passport,
    Birth,
    Name,
    Address,
    Pay,
    Secret,
}

impl Kind {
    /// In the plural, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Email => "e-mail addresses",
            Kind::Phone => "phone numbers",
            Kind::Iban => "IBANs",
            Kind::Card => "card numbers",
            Kind::CardCode => "card verification codes",
            Kind::NationalId => "national identity numbers",
            Kind::TaxId => "tax numbers",
            Kind::Passport => "passport numbers",
            Kind::Birth => "dates of birth",
            Kind::Name => "people's names",
            Kind::Address => "postal addresses",
            Kind::Pay => "salaries",
            Kind::Secret => "passwords, keys or tokens",
        }
    }

    /// The categories of types (`pg_type.typcategory`) that such data is kept in.
    fn categories(self) -> &'static str {
        match self {
            Kind::Email | Kind::Iban | Kind::Passport | Kind::Name | Kind::Address => "S",
            Kind::Phone | Kind::Card | Kind::CardCode | Kind::NationalId | Kind::TaxId | Kind::Pay => "SN",
            Kind::Birth => "SD",
            // bytea is of the user-defined ones, as uuid is.
            Kind::Secret => "SU",
        }
    }
}

/// Words that say it alone.
const WORDS: [(Kind, &[&str]); 13] = [
    (Kind::Email, &["email", "emails", "mail", "mailaddress", "emailaddress"]),
    (Kind::Phone, &["phone", "phones", "telephone", "phonenumber", "mobile", "cellphone", "msisdn", "fax"]),
    (Kind::Iban, &["iban", "ibans"]),
    (Kind::Card, &["card", "pan", "cardnumber", "cardno", "creditcard", "ccnumber"]),
    (Kind::CardCode, &["cvv", "cvv2", "cvc", "cvc2"]),
    (Kind::NationalId, &["ssn", "nino", "socialsecurity"]),
    (Kind::TaxId, &["taxid", "taxnumber", "tin", "vatid"]),
    (Kind::Passport, &["passport", "passportnumber"]),
    (Kind::Birth, &["dob", "birth", "birthday", "birthdate", "dateofbirth"]),
    (Kind::Name, &["firstname", "lastname", "fullname", "surname", "forename", "middlename"]),
    (Kind::Address, &["address", "addr", "street", "zip", "zipcode", "postcode", "postalcode"]),
    (Kind::Pay, &["salary", "salaries", "wage", "wages"]),
    (Kind::Secret, &["password", "passwd", "pwd", "passphrase", "secret", "token", "apikey"]),
];

/// Words that say it side by side.
const PAIRS: [(Kind, &str, &[&str]); 10] = [
    (Kind::NationalId, "national", &["id", "number", "no"]),
    (Kind::NationalId, "social", &["security"]),
    (Kind::NationalId, "identity", &["number", "card"]),
    (Kind::TaxId, "tax", &["id", "number", "no", "code"]),
    (Kind::TaxId, "vat", &["id", "number", "no"]),
    (Kind::Name, "first", &["name"]),
    (Kind::Name, "last", &["name"]),
    (Kind::Name, "full", &["name"]),
    (Kind::Name, "family", &["name"]),
    (Kind::Secret, "api", &["key"]),
];

/// In front of `address` these mean a machine's.
const MACHINES: [&str; 7] = ["ip", "ipv4", "ipv6", "mac", "host", "server", "memory"];

/// Last words that turn a name into one of something about the data.
const ABOUT: [&str; 12] = [
    "type", "kind", "count", "status", "verified", "brand", "enabled", "at", "flag", "template", "subject",
    "attempts",
];

/// What a column of this name and category of type (`pg_type.typcategory`) is likely to hold.
pub fn by_name(name: &str, category: char) -> Option<Kind> {
    let words = words(name);
    let last = words.last()?;
    if ABOUT.contains(&last.as_str()) {
        return None;
    }
    let pair = PAIRS.iter().find(|(_, first, seconds)| {
        words.windows(2).any(|two| two[0] == *first && seconds.contains(&two[1].as_str()))
    });
    let kind = pair.map(|(kind, ..)| *kind).or_else(|| word(&words))?;
    kind.categories().contains(category).then_some(kind)
}

fn word(words: &[String]) -> Option<Kind> {
    let of =
        |word: &String| WORDS.iter().find(|(_, all)| all.contains(&word.as_str())).map(|(kind, _)| *kind);
    // `email_address` is an e-mail's; `card_id` is a reference.
    let kind = words.iter().find_map(of)?;
    let is_machine = words.iter().any(|word| MACHINES.contains(&word.as_str()));
    let is_reference = words.len() > 1 && words.last().is_some_and(|last| last == "id");
    let stays = match kind {
        Kind::Address => !is_machine && !is_reference,
        Kind::Passport | Kind::NationalId | Kind::TaxId => true,
        _ => !is_reference,
    };
    stays.then_some(kind)
}

/// `homeAddress_2` → home, address.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for character in name.chars() {
        let is_new = character.is_uppercase() && before.is_lowercase();
        before = character;
        if is_new || !character.is_alphanumeric() {
            words.push(String::new());
        }
        if let (true, Some(word)) = (character.is_alphanumeric(), words.last_mut()) {
            word.extend(character.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty() && !word.chars().all(|character| character.is_ascii_digit()));
    words
}

/// What sampled values are, and how many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    pub kind: Kind,
    pub fitting: usize,
    pub sampled: usize,
}

/// Fewer values than this say nothing.
const FEWEST: usize = 5;

/// A test of one value.
struct Test {
    kind: Kind,
    fits: fn(&str) -> bool,
    /// The share of values from which on it is believed: what arbitrary values pass more easily must be more.
    share: f64,
}

const TESTS: [Test; 5] = [
    Test { kind: Kind::Iban, fits: is_iban, share: 0.2 },
    Test { kind: Kind::Email, fits: is_email, share: 0.2 },
    // One number in ten has a right check digit.
    Test { kind: Kind::Card, fits: is_card, share: 0.4 },
    Test { kind: Kind::NationalId, fits: is_us_social_security, share: 0.5 },
    Test { kind: Kind::Phone, fits: is_phone, share: 0.5 },
];

/// What most of the values are, of what a checksum or a form tells.
pub fn by_content<'v>(values: impl Iterator<Item = &'v str>) -> Option<Content> {
    let mut fitting = [0_usize; TESTS.len()];
    let mut sampled = 0;
    for value in values {
        sampled += 1;
        let value = value.trim();
        for (count, test) in fitting.iter_mut().zip(&TESTS) {
            *count += usize::from((test.fits)(value));
        }
    }
    let counted = fitting.into_iter().zip(&TESTS);
    let believed =
        counted.filter(|(count, test)| *count >= FEWEST && *count as f64 >= test.share * sampled as f64);
    let (fitting, test) = believed.max_by_key(|(count, _)| *count)?;
    Some(Content { kind: test.kind, fitting, sampled })
}

/// 13 to 19 digits, in groups or not, that begin as a card's and have a right check digit (ISO/IEC 7812, Luhn).
fn is_card(value: &str) -> bool {
    let Some(digits) = grouped_digits(value, " -") else { return false };
    let luhn = digits.iter().rev().enumerate().map(|(at, digit)| match u32::from(*digit) {
        digit if at % 2 == 0 => digit,
        digit => digit * 2 / 10 + digit * 2 % 10,
    });
    (13..=19).contains(&digits.len()) && (2..=6).contains(&digits[0]) && luhn.sum::<u32>() % 10 == 0
}

/// ISO 13616: country, check digits, account; the remainder of the whole by 97 is 1.
fn is_iban(value: &str) -> bool {
    let text: String =
        value.chars().filter(|character| *character != ' ').map(|c| c.to_ascii_uppercase()).collect();
    let bytes = text.as_bytes();
    let formed = (15..=34).contains(&bytes.len())
        && bytes.iter().all(u8::is_ascii_alphanumeric)
        && bytes[..2].iter().all(u8::is_ascii_uppercase)
        && bytes[2..4].iter().all(u8::is_ascii_digit);
    formed
        && bytes[4..].iter().chain(&bytes[..4]).fold(0_u32, |rest, byte| match byte {
            b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
            letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
        }) == 1
}

fn is_email(value: &str) -> bool {
    let Some((local, host)) = value.rsplit_once('@') else { return false };
    let labels: Vec<&str> = host.split('.').collect();
    let label = |label: &&str| {
        !label.is_empty()
            && label.chars().all(|character| character.is_alphanumeric() || character == '-')
            && !label.starts_with('-')
    };
    let top = labels.last().is_some_and(|top| top.len() >= 2 && top.chars().all(char::is_alphabetic));
    (1..=64).contains(&local.len())
        && !local.chars().any(|character| character.is_whitespace() || "@,;:<>()[]\"".contains(character))
        && labels.len() >= 2
        && labels.iter().all(label)
        && top
}

/// Written as people write them: with `+`, or in groups that begin with 0 or an area code. A bare number may be anything.
fn is_phone(value: &str) -> bool {
    let international = value.strip_prefix('+');
    let Some(digits) = grouped_digits(international.unwrap_or(value), " -./()") else { return false };
    let grouped = value.chars().any(|character| " -./()".contains(character));
    let areas = || {
        let lengths: Vec<usize> =
            value.split([' ', '-', '.', '(', ')']).map(str::len).filter(|length| *length > 0).collect();
        digits[0] == 0 && digits.len() > 6 || value.starts_with('(') || lengths == [3, 3, 4]
    };
    let is_date = value.len() == 10 && value.split(['-', '.', '/']).map(str::len).eq([2, 2, 4]);
    (7..=15).contains(&digits.len()) && !is_date && (international.is_some() || grouped && areas())
}

/// `123-45-6789`, of the areas, groups and numbers that are given.
fn is_us_social_security(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [3, 2, 4]
        && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
        && !["000", "666"].contains(&parts[0])
        && !parts[0].starts_with('9')
        && parts[1] != "00"
        && parts[2] != "0000"
}

/// The digits of a number that has nothing between them but these separators, and begins and ends with a digit or a bracket.
fn grouped_digits(value: &str, separators: &str) -> Option<Vec<u8>> {
    let starts = value.starts_with(|first: char| first.is_ascii_digit() || first == '(');
    if !starts || !value.ends_with(|last: char| last.is_ascii_digit()) {
        return None;
    }
    let mut digits = Vec::new();
    for character in value.chars() {
        match character.to_digit(10) {
            Some(digit) => digits.push(u8::try_from(digit).ok()?),
            None if separators.contains(character) => {}
            None => return None,
        }
    }
    Some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_by_their_words_and_types() {
        for (name, category, kind) in [
            ("email", 'S', Kind::Email),
            ("EMailAddress", 'S', Kind::Email),
            ("contact_email_2", 'S', Kind::Email),
            ("mobilePhone", 'S', Kind::Phone),
            ("iban", 'S', Kind::Iban),
            ("card_number", 'N', Kind::Card),
            ("pan", 'S', Kind::Card),
            ("cvv", 'N', Kind::CardCode),
            ("ssn", 'S', Kind::NationalId),
            ("national_id", 'S', Kind::NationalId),
            ("taxId", 'S', Kind::TaxId),
            ("passport_id", 'S', Kind::Passport),
            ("date_of_birth", 'D', Kind::Birth),
            ("dob", 'D', Kind::Birth),
            ("first_name", 'S', Kind::Name),
            ("lastName", 'S', Kind::Name),
            ("home address", 'S', Kind::Address),
            ("zip", 'S', Kind::Address),
            ("salary", 'N', Kind::Pay),
            ("password_hash", 'S', Kind::Secret),
            ("api_key", 'S', Kind::Secret),
            ("refresh_token", 'S', Kind::Secret),
        ] {
            assert_eq!(by_name(name, category), Some(kind), "{name}");
        }
        for (name, category) in [
            ("cardinality", 'N'),
            ("company", 'S'),
            ("span", 'N'),
            ("email_verified", 'B'),
            ("email_sent_at", 'D'),
            ("email_id", 'N'),
            ("card_type", 'S'),
            ("card_id", 'N'),
            ("token_count", 'N'),
            ("ip_address", 'S'),
            ("address_id", 'N'),
            ("name", 'S'),
            ("streetcar", 'S'),
            ("zipped", 'B'),
            ("_", 'S'),
            ("", 'S'),
        ] {
            assert_eq!(by_name(name, category), None, "{name}");
        }
    }

    #[test]
    fn values_are_judged_by_checksum_and_form() {
        let fits = |test: fn(&str) -> bool, good: &[&str], bad: &[&str]| {
            for value in good {
                assert!(test(value), "{value}");
            }
            for value in bad {
                assert!(!test(value), "{value}");
            }
        };
        fits(
            is_card,
            &["4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005"],
            &["4111111111111112", "0000000000000000", "411111111111", "4111111111111111x", ""],
        );
        fits(
            is_iban,
            &["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "de89370400440532013000"],
            &["DE88370400440532013000", "DE89", "8937040044053201300000", ""],
        );
        fits(
            is_email,
            &["ann@example.com", "o'neil+x@mail.example.co.uk", "jörg@bücher.de"],
            &["ann@example", "@example.com", "a b@example.com", "a@b..com", "a@1.2", "ann", ""],
        );
        fits(
            is_phone,
            &["+49 30 901820", "+14155552671", "030/901820", "(415) 555-2671", "415-555-2671"],
            &["2024-01-02", "02.01.2024", "4155552671", "00012345", "+12", "1.5", "127.0.0.1", ""],
        );
        fits(
            is_us_social_security,
            &["123-45-6789"],
            &["000-45-6789", "666-45-6789", "912-45-6789", "123-00-6789", "123456789"],
        );
    }

    #[test]
    fn a_column_is_what_enough_of_its_values_are() {
        let of = |values: &[&str]| by_content(values.iter().copied());
        let cards = ["4111111111111111"; 5];
        assert_eq!(of(&cards), Some(Content { kind: Kind::Card, fitting: 5, sampled: 5 }));
        assert_eq!(of(&cards[..4]), None, "too few to tell");
        let mut mixed: Vec<&str> = cards.to_vec();
        mixed.extend(["7"; 8]);
        assert_eq!(of(&mixed), None, "as many as chance makes");
        let numbers: Vec<String> =
            (0..1000_u64).map(|n| (4_000_000_000_000_000 + n * 7919).to_string()).collect();
        assert_eq!(by_content(numbers.iter().map(String::as_str)), None);
    }
}
