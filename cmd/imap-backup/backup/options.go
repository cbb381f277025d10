package backup

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"mailstead.dev/cmd/imap-backup/remote"
)

// Options say what is to be done. Zero fields mean what stands beside them.
type Options struct {
	Dial        func(ctx context.Context, report func(string)) (*remote.Session, error)
	Dir         string
	Format      string // one of archive.Formats
	Connections int    // at most; 1
	Drop        bool   // messages that the server has no more go here too
	Select      Select
	Filter      remote.Filter
	MaxMessage  int64         // a larger message is reported and left out; no limit
	Pause       time.Duration // before another try, and four times as long before each further one; 400 ms
	Show        func(Event)
}

// Select says which mailboxes are meant; the zero value, all.
type Select struct {
	Include, Exclude []string // patterns, in which * is any text, also with the delimiter
	Uses, NotUses    []string // special uses, such as \Sent
}

// Match reports whether a mailbox is meant.
func (s *Select) Match(name string, uses []string) bool {
	matches := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return matchPattern(p, name) })
	}
	has := func(wanted []string) bool {
		return slices.ContainsFunc(wanted, func(w string) bool {
			return slices.ContainsFunc(uses, func(u string) bool {
				return strings.EqualFold(strings.TrimPrefix(w, `\`), strings.TrimPrefix(u, `\`))
			})
		})
	}
	if (len(s.Include) > 0 || len(s.Uses) > 0) && !matches(s.Include) && !has(s.Uses) {
		return false
	}
	return !matches(s.Exclude) && !has(s.NotUses)
}

// matchPattern is path.Match, in which a * stops at no delimiter.
func matchPattern(pattern, name string) bool {
	hide := strings.NewReplacer("/", "\x00")
	matched, err := path.Match(hide.Replace(pattern), hide.Replace(name))
	return matched && err == nil
}

// Literally returns the pattern that matches one name.
func Literally(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// CheckPatterns returns an error for a pattern that can match nothing.
func (s *Select) CheckPatterns() error {
	for _, pattern := range slices.Concat(s.Include, s.Exclude) {
		if _, err := path.Match(pattern, ""); err != nil {
			return &PatternError{pattern}
		}
	}
	return nil
}

// PatternError is a pattern with a [ that is not closed.
type PatternError struct{ Pattern string }

func (e *PatternError) Error() string { return "pattern " + e.Pattern + ": a [ or \\ without its end" }
