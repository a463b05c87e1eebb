//! When a schedule is due: five fields of cron in a time zone.

use cronexpr::{Crontab, MakeTimestamp};

/// A schedule that can be asked for its times.
#[derive(Clone, Debug)]
pub struct Schedule(Crontab);

impl Schedule {
    /// Minute, hour, day of month, month, day of week; an IANA name of a time zone.
    ///
    /// # Errors
    /// What is wrong with either, for people.
    pub fn parse(cron: &str, time_zone: &str) -> Result<Schedule, String> {
        if cron.split_whitespace().count() != 5 {
            return Err("it has five fields: minute, hour, day of month, month, day of week".to_owned());
        }
        if time_zone.is_empty() || time_zone.contains(char::is_whitespace) {
            return Err(format!("{time_zone:?} is no time zone"));
        }
        cronexpr::parse_crontab(&format!("{cron} {time_zone}"))
            .map(Schedule)
            .map_err(|error| {
                let text = error.to_string();
                text.lines()
                    .last()
                    .unwrap_or("it cannot be read")
                    .trim()
                    .to_owned()
            })
    }

    /// The first time behind this one, both in milliseconds since 1970; None: never again.
    pub fn next_after(&self, ms: i64) -> Option<i64> {
        let from = MakeTimestamp::from_millisecond(ms).ok()?;
        Some(self.0.find_next(from).ok()?.timestamp().as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn a_schedule_follows_the_clocks_of_its_zone() {
        let schedule = Schedule::parse("30 2 * * 1-5", "Europe/Zurich").unwrap();
        // Winter, then summer time.
        assert_eq!(
            schedule.next_after(ms("2026-01-05T00:00:00Z")),
            Some(ms("2026-01-05T01:30:00Z"))
        );
        assert_eq!(
            schedule.next_after(ms("2026-07-06T00:00:00Z")),
            Some(ms("2026-07-06T00:30:00Z"))
        );
        // Over a week-end.
        assert_eq!(
            schedule.next_after(ms("2026-01-09T02:00:00Z")),
            Some(ms("2026-01-12T01:30:00Z"))
        );
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for (cron, zone) in [
            ("61 * * * *", "UTC"),
            ("* * * *", "UTC"),
            ("* * * * *", "Mars/Olympus"),
            ("* * * * *", ""),
        ] {
            let why = Schedule::parse(cron, zone).unwrap_err();
            assert!(!why.is_empty(), "{cron} {zone}");
        }
    }
}
