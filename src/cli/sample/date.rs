//! The dates of orders.

#[derive(Debug, Clone, Copy)]
pub(super) struct Date {
    pub(super) year: usize,
    pub(super) month: usize,
    pub(super) day: usize,
}

impl Date {
    /// The date this many days after 2003-01-01.
    pub(super) fn from_index(days: usize) -> Self {
        let mut date = Self {
            year: 2003,
            month: 1,
            day: days + 1,
        };
        loop {
            let length = match date.month {
                2 if date.year.is_multiple_of(4) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            if date.day <= length {
                return date;
            }
            date.day -= length;
            date.month += 1;
            if date.month > 12 {
                date = Self {
                    year: date.year + 1,
                    month: 1,
                    ..date
                };
            }
        }
    }
}
