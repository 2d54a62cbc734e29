//! Texts of each type from a seed: by the type's grammar, in its corners, and damaged.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Texts by the grammar of their types.
pub(crate) struct Texts {
    random: StdRng,
}

impl Texts {
    pub(crate) fn new(seed: u64) -> Texts {
        Texts { random: StdRng::seed_from_u64(seed) }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.random.random_range(0..limit)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let index = self.below(of.len() as u32) as usize;
        of[index]
    }

    fn digits(&mut self, max: u32) -> String {
        let length = 1 + self.below(max);
        (0..length).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    pub(crate) fn of(&mut self, data_type: &str) -> String {
        match data_type {
            "text" | "varchar(5)" => self.text(),
            "smallint" | "integer" | "bigint" => self.integer(),
            name if name.starts_with("numeric") => self.decimal(),
            "real" | "double precision" => self.float(),
            "boolean" => {
                let word = self.one(&[
                    "t", "TRUE", "fals", "on", "of", "off", "o", "1", "0", "yes", "N", " no ", "2", "",
                ]);
                word.to_owned()
            }
            "date" => self.date(),
            "time" => self.clock(),
            "timestamp" | "timestamptz" => self.timestamp(),
            "interval" => self.interval(),
            "uuid" => self.uuid(),
            "bytea" => self.bytes(),
            "json" | "jsonb" => self.json(3),
            "inet" => self.inet(),
            other => panic!("{other}"),
        }
    }

    fn text(&mut self) -> String {
        let length = self.below(8);
        (0..length).map(|_| self.one(&["a", "B", " ", " ", "ä", "€", "🦀", "\\", "'", "\n"])).collect()
    }

    fn integer(&mut self) -> String {
        match self.below(8) {
            0 => self
                .one(&["32767", "32768", "-32768", "-32769", "2147483647", "-2147483649", "0", "-0"])
                .to_owned(),
            1 => self
                .one(&["9223372036854775807", "9223372036854775808", "-9223372036854775808", "", "+", "1e3"])
                .to_owned(),
            2 => format!("{}{}", self.one(&[" ", "+", "-", "\t-", "00"]), self.digits(5)),
            3 => format!("{}{}", self.digits(4), self.one(&[" ", "x", ".0", "\n", " 1"])),
            _ => format!("{}{}", self.one(&["", "-"]), self.digits(19)),
        }
    }

    fn decimal(&mut self) -> String {
        match self.below(8) {
            0 => self
                .one(&["NaN", "nan", "Infinity", "-inf", "+Infinity", "-nan", ".", "", "1e", "e1", "--1"])
                .to_owned(),
            1 => format!("{}e{}{}", self.digits(6), self.one(&["", "-", "+"]), self.digits(2)),
            2 => format!(".{}", self.digits(6)),
            3 => format!("{}{}.", self.one(&["-", "0"]), self.digits(6)),
            4 => format!("0.{}{}", "0".repeat(self.below(9) as usize), self.digits(4)),
            5 => {
                format!("{}{}.{}", self.digits(2), "9".repeat(4), self.one(&["995", "994", "5", "50", "49"]))
            }
            _ => {
                let sign = self.one(&["", "-", " +"]);
                format!("{sign}{}.{}", self.digits(9), self.digits(9))
            }
        }
    }

    fn float(&mut self) -> String {
        match self.below(7) {
            0 => self
                .one(&["NaN", "Infinity", "-inf", "1e400", "1e-400", "1e39", "-0", "0", "1e-46", "x"])
                .to_owned(),
            1 => format!("{:e}", f64::from_bits(self.random.random())).replace("inf", "Infinity"),
            2 => format!("{:e}", f32::from_bits(self.random.random())).replace("inf", "Infinity"),
            // Powers of two and their neighbours, where the shortest decimal is delicate.
            3 => {
                let power = 2f64.powi(self.below(200) as i32 - 60);
                let step = self.below(3) as i64 - 1;
                format!("{:e}", f64::from_bits(power.to_bits().wrapping_add_signed(step)))
            }
            4 => format!("{}e{}", self.digits(3), self.below(30)),
            5 => format!("{}{}", self.digits(2), "0".repeat(self.below(20) as usize)),
            _ => self.decimal(),
        }
    }

    fn year(&mut self) -> String {
        match self.below(6) {
            0 => format!("{:02}", self.below(100)),
            1 => format!("{:04}", self.below(5000)),
            2 => self.one(&["4713", "294276", "9999", "10000", "0001", "99999"]).to_owned(),
            _ => (1900 + self.below(150)).to_string(),
        }
    }

    fn date(&mut self) -> String {
        let (year, month, day) = (self.year(), 1 + self.below(13), 1 + self.below(32));
        let name = self.one(&[
            "Jan", "february", "MAR", "Apr", "may", "Jun", "July", "Aug", "Sept", "Oct", "Nov", "Dec",
        ]);
        let era = self.one(&["", "", "", " BC", " AD"]);
        let date = match self.below(14) {
            0 => format!("{year}{month:02}{day:02}"),
            1 => format!("{name} {day}, {year}"),
            2 => format!("{day} {name} {year}"),
            3 => format!("{day:02}-{name}-{year}"),
            4 => format!("{year}-{name}-{day:02}"),
            5 => format!("{name}-{day:02}-{year}"),
            6 => format!("{month}/{day}/{year}"),
            7 => format!("{day}.{month}.{year}"),
            8 => format!("{}, {name} {day} {year}", self.one(&["Mon", "tuesday", "Thurs"])),
            9 => format!("{year}.{:03}", 1 + self.below(366)),
            10 => self
                .one(&[
                    "infinity",
                    "-infinity",
                    "epoch",
                    "2000-02-30",
                    "0000-01-01",
                    "4714-11-24 BC",
                    "4714-11-23 BC",
                    "5874897-12-31",
                    "5874898-01-01",
                    "",
                    " ",
                ])
                .to_owned(),
            _ => format!("{year}-{month:02}-{day:02}"),
        };
        if date.contains("in") || date.contains("epoch") { date } else { format!("{date}{era}") }
    }

    fn clock(&mut self) -> String {
        let (hour, minute, second) = (self.below(26), self.below(61), self.below(62));
        let fraction = match self.below(4) {
            0 => format!(".{}", self.digits(8)),
            1 => self.one(&[".", ".9999995", ".9999994", ".0000005", ".5"]).to_owned(),
            _ => String::new(),
        };
        let zone = self.one(&["", "", "", "+02", "-08:30", "Z", " PST", "+0530", " utc", "+16", "-15:59:59"]);
        let time = match self.below(7) {
            0 => format!("{hour:02}:{minute:02}"),
            1 => format!("{hour:02}{minute:02}{second:02}{fraction}"),
            2 => format!("{}:{minute:02}:{second:02}{fraction} {} ", hour % 14, self.one(&["AM", "pm"])),
            3 => format!("{hour:02}{minute:02}"),
            _ => format!("{hour:02}:{minute:02}:{second:02}{fraction}"),
        };
        format!("{time}{zone}")
    }

    fn timestamp(&mut self) -> String {
        let zone = self.one(&[
            "",
            "",
            "",
            "",
            " America/New_York",
            " europe/berlin",
            " EST5EDT",
            " CET",
            " Nowhere/Land",
        ]);
        let gap = self.one(&[" ", " ", "T", "  "]);
        match self.below(8) {
            0 => self.date(),
            1 => {
                // Special dates stand alone with us.
                let date = self
                    .date()
                    .replace("-infinity", "")
                    .replace("infinity", "")
                    .replace("epoch", "1970-01-01");
                format!("{} {date}", self.clock())
            }
            // Around the changes of the clocks.
            2 => {
                let day = self.one(&[
                    "2024-03-31",
                    "2024-10-27",
                    "2024-03-10",
                    "2024-11-03",
                    "2018-11-04",
                    "2018-02-18",
                    "2023-10-01",
                    "2023-04-02",
                    "1915-07-01",
                ]);
                format!("{day}{gap}0{}:{:02}:00{zone}", self.below(4), self.below(60))
            }
            3 => self
                .one(&[
                    "294276-12-31 23:59:59.999999",
                    "294277-01-01",
                    "4714-11-24 00:00:00 BC",
                    "4714-11-23 23:59:59 BC",
                    "1999-01-08 24:00:00",
                    "1999-01-08 24:00:01",
                ])
                .to_owned(),
            _ => {
                let day = format!("{}-{:02}-{:02}", self.year(), 1 + self.below(12), 1 + self.below(28));
                format!("{day}{gap}{}{zone}", self.clock())
            }
        }
    }

    fn interval(&mut self) -> String {
        let number = |texts: &mut Texts| {
            let sign = texts.one(&["", "", "-", "+"]);
            match texts.below(3) {
                0 => format!("{sign}{}.{}", texts.digits(3), texts.digits(7)),
                _ => format!("{sign}{}", texts.digits(4)),
            }
        };
        match self.below(6) {
            0 => {
                let mut iso = "P".to_owned();
                for unit in ["Y", "M", "W", "D", "T", "H", "M", "S"] {
                    if unit == "T" {
                        iso.push('T');
                    } else if self.below(2) == 0 {
                        iso.push_str(&format!("{}{unit}", number(self).trim_start_matches('+')));
                    }
                }
                iso
            }
            1 => format!(
                "{}{}-{} {} {}{}:{:02}:{:02}",
                self.one(&["", "-", "+"]),
                self.below(50),
                self.below(14),
                self.below(100),
                self.one(&["", "-", "+"]),
                self.below(200),
                self.below(61),
                self.below(60)
            ),
            2 => self
                .one(&[
                    "",
                    "1",
                    "-1",
                    "1.5",
                    "@ 1 minute",
                    "1 day ago",
                    "12:34.5",
                    "1:2:3:4",
                    "x",
                    "1 fortnight",
                    "178000000 years",
                    "99999999999 days",
                    "1 day 1 day",
                    "infinity",
                    "5.",
                    "1h30m",
                    "1 00:00:01",
                ])
                .to_owned(),
            _ => {
                let mut words = vec![];
                for unit in [
                    "millennium",
                    "century",
                    "decades",
                    "years",
                    "mons",
                    "weeks",
                    "days",
                    "hours",
                    "min",
                    "sec",
                    "ms",
                    "microseconds",
                ] {
                    if self.below(4) == 0 {
                        words.push(format!("{} {unit}", number(self)));
                    }
                }
                if self.below(3) == 0 {
                    words.push(format!(
                        "{}{}:{:02}",
                        self.one(&["", "-", "+"]),
                        self.below(30),
                        self.below(60)
                    ));
                }
                if self.below(4) == 0 {
                    words.push("ago".to_owned());
                }
                words.join(" ")
            }
        }
    }

    fn uuid(&mut self) -> String {
        let hex = format!("{:032x}", u128::from(self.below(4)) << 100 | u128::from(self.below(3)));
        match self.below(6) {
            0 => hex.to_uppercase(),
            1 => format!("{{{hex}}}"),
            2 => hex
                .as_bytes()
                .chunks(4)
                .map(|four| std::str::from_utf8(four).unwrap())
                .collect::<Vec<_>>()
                .join("-"),
            3 => self
                .one(&[
                    "",
                    "x",
                    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
                    "-",
                    "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
                ])
                .to_owned(),
            4 => hex,
            _ => format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]),
        }
    }

    fn bytes(&mut self) -> String {
        match self.below(5) {
            0 => self
                .one(&[
                    r"\x",
                    r"\xa",
                    r"\xag",
                    r"\x ab cd",
                    r"\xa b",
                    r"\9",
                    r"\",
                    r"\400",
                    r"a\000b",
                    r"\\",
                    r"\x61",
                ])
                .to_owned(),
            1 => format!("{}\\{:03o}", self.text().replace('\\', ""), self.below(256)),
            2 => self.text().replace('\\', "\\\\"),
            _ => format!("\\x{:02x}{:02X}", self.below(3), self.below(256)),
        }
    }

    fn json(&mut self, depth: u32) -> String {
        let space = self.one(&["", "", " ", "\n\t"]);
        let kind = self.below(if depth == 0 { 7 } else { 10 });
        let inner = match kind {
            0 => self
                .one(&["null", "true", "false", "nul", "truex", "{", "", "[1,]", "{\"a\"}", "1 2"])
                .to_owned(),
            1 => format!("{}{}.{}", self.one(&["", "-"]), self.below(1000), self.digits(4)),
            2 => format!("{}e{}{}", self.below(1000), self.one(&["", "-", "+"]), self.below(40)),
            3 => self.below(1000).to_string(),
            4 => self
                .one(&[
                    "\"\\u00e4\"",
                    "\"\\ud83e\\udd80\"",
                    "\"\\ud800\"",
                    "\"\\u0000\"",
                    "\"\\x\"",
                    "\"a\tb\"",
                    "\"\\u001f\\b\\f\\/\"",
                    "01",
                    "-",
                    "1.",
                ])
                .to_owned(),
            5 | 6 => format!("\"{}\"", self.text().replace('\\', "\\\\").replace('\n', "\\n")),
            7 => {
                let items: Vec<String> = (0..self.below(4)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", items.join(","))
            }
            _ => {
                let members: Vec<String> = (0..self.below(5))
                    .map(|_| {
                        format!(
                            "\"{}\"{space}:{}",
                            self.one(&["a", "b", "aa", "ä", "", "a\\n"]),
                            self.json(depth - 1)
                        )
                    })
                    .collect();
                format!("{{{}}}", members.join(", "))
            }
        };
        format!("{space}{inner}{space}")
    }

    fn inet(&mut self) -> String {
        let bits = match self.below(4) {
            0 => format!("/{}", self.below(34)),
            1 => self.one(&["/128", "/129", "/64", "/024", "/", "/x", "/32"]).to_owned(),
            _ => String::new(),
        };
        match self.below(4) {
            0 => {
                let group = |texts: &mut Texts| match texts.below(2) {
                    0 => "0".to_owned(),
                    _ => format!("{:x}", texts.below(0x10000)),
                };
                let groups: Vec<String> = (0..8).map(|_| group(self)).collect();
                format!("{}{bits}", groups.join(":"))
            }
            1 => format!(
                "{}{bits}",
                self.one(&[
                    "::1",
                    "::",
                    "::2:3",
                    "::ffff:1.2.3.4",
                    "::1.2.3.4",
                    "1::",
                    "FE80::1",
                    "::1:0",
                    "::ffff:0:1",
                    "1:2",
                    "::1::",
                    "1:2:3:4:5:6:7::",
                    ":1:2:3:4:5:6:7",
                    "64:ff9b::1.2.3.4"
                ])
            ),
            _ => {
                let octet = |texts: &mut Texts| match texts.below(8) {
                    0 => "256".to_owned(),
                    1 => "01".to_owned(),
                    _ => texts.below(3).to_string(),
                };
                let octets: Vec<String> = (0..4).map(|_| octet(self)).collect();
                format!("{}{bits}", octets.join("."))
            }
        }
    }

    /// What the masks of text look for, and near misses.
    pub(crate) fn address_or_card(&mut self) -> String {
        let word = |texts: &mut Texts| texts.one(&["a", "anna", "", ".", "x.y", "b@c", "ä", "4111", "\n"]);
        match self.below(4) {
            0 => (0..self.below(24)).map(|_| self.one(&["4", "1", "1", "-", " ", "x"])).collect(),
            1 => {
                let start = self.one(&["DE89", "MT84 MALT", "no93 ", "D8", "é1", ""]);
                let rest = (0..self.below(11)).map(|_| self.one(&["3704", "0044", "A", "b0", " ", "12"]));
                start.to_owned() + &rest.collect::<String>() + self.one(&["", "", "\n", "-", "é"])
            }
            2 => format!(
                "{}@{}.{}",
                word(self),
                word(self),
                self.one(&["org", "c", "co.uk", "o1", "Museum", ""])
            ),
            _ => format!("{}{}{}", word(self), self.one(&["@", ".", "@.", ".@"]), word(self)),
        }
    }

    /// One character changed, doubled, dropped or put in.
    pub(crate) fn damaged(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        let at = self.below(chars.len() as u32 + 1) as usize;
        let other =
            self.one(&["0", "9", "-", "+", ":", ".", "/", " ", "T", "e", "x", "\"", "Z", "é", "_", ","]);
        match self.below(3) {
            0 if at < chars.len() => {
                chars.remove(at);
            }
            1 if at < chars.len() => chars[at] = other.chars().next().unwrap(),
            _ => chars.insert(at, other.chars().next().unwrap()),
        }
        chars.into_iter().collect()
    }
}
