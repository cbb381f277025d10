package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// size is a number of octets as a flag: 500, 10K, 5M, 2G, with 1,024 for each step.
type size int64

func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*s), 10)
}

func (s *size) Type() string { return "size" }

func (s *size) Set(text string) error {
	digits := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(text), "B"), "I")
	shift := 0
	if i := strings.IndexAny(digits, "KMGT"); i >= 0 && i == len(digits)-1 {
		shift = 10 * (strings.IndexByte("KMGT", digits[i]) + 1)
		digits = digits[:i]
	}
	n, err := strconv.ParseInt(digits, 10, 63)
	if err != nil || n < 0 || n<<shift>>shift != n {
		return fmt.Errorf("want a size such as 500, 10K, 5M or 2G")
	}
	*s = size(n << shift)
	return nil
}

// date is a day as a flag.
type date time.Time

func (d *date) String() string {
	if time.Time(*d).IsZero() {
		return ""
	}
	return time.Time(*d).Format(time.DateOnly)
}

func (d *date) Type() string { return "day" }

func (d *date) Set(text string) error {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return fmt.Errorf("want a day such as 2026-11-26")
	}
	*d = date(t)
	return nil
}

// units of what is shown.
var units = []string{"B", "KiB", "MiB", "GiB", "TiB"}

// human shows a number of octets in few digits.
func human(n int64) string {
	f, unit := float64(n), 0
	for f >= 1024 && unit < len(units)-1 {
		f, unit = f/1024, unit+1
	}
	if unit == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[unit])
	}
	return fmt.Sprintf("%.1f %s", f, units[unit])
}
