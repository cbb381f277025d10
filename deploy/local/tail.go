package local

import (
	"os"
	"strings"
)

// Tail returns the last lines of a log file, for an error message.
func Tail(path string) string {
	const lines = 12
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(append([]string{"the end of " + path + ":"}, all[max(0, len(all)-lines):]...), "\n    ")
}
