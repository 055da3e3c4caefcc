//! Numbers with units, as people write them: `8MiB`, `100ms`, `7d`.

/// What a setting counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Text, a choice, a plain number.
    None,
    Bytes,
    Milliseconds,
    Minutes,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Bytes => "bytes",
            Unit::Milliseconds => "ms",
            Unit::Minutes => "minutes",
        }
    }

    /// Suffixes, in lower case, and how many of the unit each is: (suffix, times, divided by).
    fn suffixes(self) -> &'static [(&'static str, i64, i64)] {
        match self {
            Unit::None => &[],
            Unit::Bytes => &[
                ("b", 1, 1),
                ("k", 1 << 10, 1),
                ("kib", 1 << 10, 1),
                ("kb", 1000, 1),
                ("m", 1 << 20, 1),
                ("mib", 1 << 20, 1),
                ("mb", 1_000_000, 1),
                ("g", 1 << 30, 1),
                ("gib", 1 << 30, 1),
                ("gb", 1_000_000_000, 1),
            ],
            Unit::Milliseconds => &[
                ("ms", 1, 1),
                ("s", 1000, 1),
                ("m", 60_000, 1),
                ("min", 60_000, 1),
                ("h", 3_600_000, 1),
                ("d", 86_400_000, 1),
            ],
            Unit::Minutes => {
                &[("ms", 1, 60_000), ("s", 1, 60), ("m", 1, 1), ("min", 1, 1), ("h", 60, 1), ("d", 1440, 1)]
            }
        }
    }

    /// Reads a whole number of the unit, with or without a suffix.
    pub fn parse(self, text: &str) -> Result<i64, String> {
        let text = text.trim();
        let digits = text.len()
            - text.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '-' || letter == '_').len();
        let (number, suffix) = text.split_at(digits);
        let number: i64 = number.replace('_', "").parse().map_err(|_| self.expected())?;
        let suffix = suffix.trim().to_ascii_lowercase();
        if suffix.is_empty() {
            return Ok(number);
        }
        let (_, times, divisor) =
            self.suffixes().iter().find(|(known, _, _)| *known == suffix).ok_or_else(|| self.expected())?;
        let value = number.checked_mul(*times).ok_or("too large")?;
        if value % divisor != 0 {
            return Err(format!("not a whole number of {}", self.name()));
        }
        Ok(value / divisor)
    }

    fn expected(self) -> String {
        match self {
            Unit::None => "not a whole number".to_owned(),
            Unit::Bytes => "not a number of bytes (such as 65536, 64KiB, 8MiB, 1GB)".to_owned(),
            Unit::Milliseconds => "not a time (such as 100, 100ms, 5s, 10min, 1h, 7d; without a unit: ms)".to_owned(),
            Unit::Minutes => "not a time (such as 10080, 30min, 1h, 7d; without a unit: minutes)".to_owned(),
        }
    }
}

/// How many single-letter changes (insert, delete, replace, swap neighbours) lead from one text to the other.
pub fn edit_distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    rows[0].iter_mut().enumerate().for_each(|(at, cell)| *cell = at);
    for i in 1..=from.len() {
        rows[i][0] = i;
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (unit, text, value) in [
            (Unit::Bytes, "8MiB", 8 << 20),
            (Unit::Bytes, "8 mb", 8_000_000),
            (Unit::Bytes, "65_536", 65_536),
            (Unit::Milliseconds, "100", 100),
            (Unit::Milliseconds, "100ms", 100),
            (Unit::Milliseconds, "5s", 5000),
            (Unit::Milliseconds, "7d", 604_800_000),
            (Unit::Milliseconds, "-1", -1),
            (Unit::Minutes, "7d", 10_080),
            (Unit::Minutes, "120s", 2),
            (Unit::None, "50", 50),
        ] {
            assert_eq!(unit.parse(text), Ok(value), "{text}");
        }
        for (unit, text) in [
            (Unit::Bytes, "8MiBs"),
            (Unit::Bytes, ""),
            (Unit::Bytes, "MiB"),
            (Unit::Bytes, "1.5MiB"),
            (Unit::Bytes, "9000000000GiB"),
            (Unit::Milliseconds, "8MiB"),
            (Unit::Minutes, "90s"),
            (Unit::None, "5s"),
        ] {
            assert!(unit.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn distance_counts_changes() {
        for (from, to, distance) in
            [("", "abc", 3), ("flush", "flush", 0), ("fulsh", "flush", 1), ("store", "stare", 1), ("a", "b", 1)]
        {
            assert_eq!(edit_distance(from, to), distance, "{from} {to}");
        }
    }
}
