//! Sample customers, the same at every run: personal data, payment data, credentials, preferences and behaviour.

use fake::Fake;
use fake::faker::address::en::{BuildingNumber, CityName, StreetName, ZipCode};
use fake::faker::creditcard::en::CreditCardNumber;
use fake::faker::internet::en::FreeEmailProvider;
use fake::faker::name::en::{FirstName, LastName};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// One customer with a payment and a visit.
pub struct Person {
    pub id: u32,
    pub name: String,
    pub email: String,
    pub phone: String,
    pub address: String,
    pub born: String,
    pub password_hash: String,
    pub api_token: String,
    pub preferences: String,
    pub card_number: String,
    pub iban: String,
    pub page: String,
}

impl Person {
    /// Everything of it that must not be found in the database's files.
    pub fn sensitive(&self) -> Vec<&str> {
        vec![
            &self.name,
            &self.email,
            &self.phone,
            &self.address,
            &self.password_hash,
            &self.api_token,
            &self.preferences,
            &self.card_number,
            &self.iban,
            &self.page,
        ]
    }
}

fn digits(rng: &mut StdRng, count: usize) -> String {
    (0..count).map(|_| char::from(b'0' + rng.random_range(0..10u8))).collect()
}

fn hex(rng: &mut StdRng, count: usize) -> String {
    (0..count).map(|_| char::from_digit(rng.random_range(0..16), 16).unwrap_or('0')).collect()
}

/// `count` customers from `seed`.
pub fn people(count: u32, seed: u64) -> Vec<Person> {
    let mut rng = StdRng::seed_from_u64(seed);
    (1..=count).map(|id| person(id, &mut rng)).collect()
}

fn person(id: u32, rng: &mut StdRng) -> Person {
    let first: String = FirstName().fake_with_rng(rng);
    let last: String = LastName().fake_with_rng(rng);
    let provider: String = FreeEmailProvider().fake_with_rng(rng);
    let street: String = StreetName().fake_with_rng(rng);
    let house: String = BuildingNumber().fake_with_rng(rng);
    let city: String = CityName().fake_with_rng(rng);
    let zip: String = ZipCode().fake_with_rng(rng);
    let card: String = CreditCardNumber().fake_with_rng(rng);
    let colour = ["blue", "green", "amber", "violet"][rng.random_range(0..4)];
    Person {
        id,
        email: format!(
            "{}.{}{id}@{provider}",
            first.to_lowercase(),
            last.to_lowercase().replace(['\'', ' '], "")
        ),
        name: format!("{first} {last} {id}"),
        phone: format!("+1-555-{}-{id:05}", digits(rng, 3)),
        address: format!("{house} {street}, {zip} {city} ({id})"),
        born: format!(
            "{}-{:02}-{:02}",
            rng.random_range(1940..2006),
            rng.random_range(1..13),
            rng.random_range(1..29)
        ),
        password_hash: format!("$argon2id$v=19$m=19456,t=2,p=1${}", hex(rng, 44)),
        api_token: format!("tok_{}", hex(rng, 32)),
        preferences: format!(
            "{{\"size\": {}, \"colour\": \"{colour}-{id}\", \"newsletter\": {}}}",
            rng.random_range(34..47),
            rng.random_bool(0.5)
        ),
        card_number: if card.len() >= 12 { card } else { format!("4000{}", digits(rng, 12)) },
        iban: format!("DE{}", digits(rng, 20)),
        page: format!("/products/{}/?from=mail-{id}", hex(rng, 8)),
    }
}
