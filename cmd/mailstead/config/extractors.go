package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Extractor is a program that reads the text of attached files.
type Extractor struct {
	Types   []string // media types, and ends of file names with their dot; in lower case
	Command []string // a program by its path, and its arguments
}

func (e *Extractor) UnmarshalText(text []byte) error {
	types, command, _ := strings.Cut(string(text), "=")
	*e = Extractor{Types: strings.Split(strings.ToLower(types), ","), Command: strings.Fields(command)}
	for _, t := range e.Types {
		kind, sub, media := strings.Cut(t, "/")
		end, name := strings.CutPrefix(t, ".")
		if media && (kind == "" || sub == "") || !media && (!name || end == "") || strings.Trim(t, "abcdefghijklmnopqrstuvwxyz0123456789/.+-_") != "" {
			return errExtractor
		}
	}
	if len(e.Command) == 0 || !filepath.IsAbs(e.Command[0]) {
		return errExtractor
	}
	return nil
}

var errExtractor = errors.New("want types and a program by its path such as application/pdf,.pdf=/usr/bin/pdftotext -q /dev/stdin -")

func (e Extractor) String() string {
	return strings.Join(e.Types, ",") + "=" + strings.Join(e.Command, " ")
}

// checkExtractors finds what is wrong with the programs that read files.
func (l *loader) checkExtractors(s Search, at func(string) string) {
	const shell = "/bin/sh"

	for _, e := range s.Extractors {
		for _, program := range []string{e.Command[0], shell} {
			if info, err := os.Stat(program); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
				l.problem(at("search.extractors"), "%s: want a program that is there and may be run", program)
			}
		}
	}
}
