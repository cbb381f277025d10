package imapd

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Every answer that refuses something or ends a connection is played: in a transcript
// or, where it takes an option, a fault or a very long line, in another test, which has its text.
func TestEveryAnswerIsPlayed(t *testing.T) {
	var told, tests strings.Builder
	for _, line := range transcriptLines(t, 'S') {
		told.WriteString(line + "\n")
	}
	for _, file := range goFiles(t, true) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	answers := make(map[string]token.Position)
	for _, file := range goFiles(t, false) {
		findAnswers(t, file, answers)
	}
	if len(answers) < 100 {
		t.Errorf("only %d answers are found", len(answers))
	}
	verb := regexp.MustCompile(`%[.0-9]*[a-z]`)
	for answer, at := range answers {
		fixed := verb.Split(answer, -1)
		for i := range fixed {
			fixed[i] = regexp.QuoteMeta(fixed[i])
		}
		played := regexp.MustCompile(`(?m)(NO|BAD|BYE) (\[.*\] )?` + strings.Join(fixed, ".*") + `$`)
		begins := answer[:strings.IndexAny(answer+"%", ":%")]
		if !played.MatchString(told.String()) && (len(begins) < 8 || !strings.Contains(tests.String(), begins)) {
			t.Errorf("%s: nobody is ever told %q", at, answer)
		}
	}
}

// transcriptLines returns what one side says in all transcripts.
func transcriptLines(t *testing.T, side byte) (lines []string) {
	files, _ := filepath.Glob("testdata/*.imap") // the pattern is right
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if line[0] == side {
				lines = append(lines, strings.TrimSuffix(line, "\n"))
			}
		}
	}
	return lines
}

// goFiles returns the source files of what speaks IMAP, or their tests.
func goFiles(t *testing.T, tests bool) (files []string) {
	for _, pattern := range []string{"*.go", "wire/*.go"} {
		found, _ := filepath.Glob(pattern) // the pattern is right
		for _, file := range found {
			if strings.HasSuffix(file, "_test.go") == tests {
				files = append(files, file)
			}
		}
	}
	if len(files) == 0 {
		t.Fatal("no source files")
	}
	return files
}

// findAnswers finds the texts of refusals in a source file, as formats where they are such.
func findAnswers(t *testing.T, file string, answers map[string]token.Position) {
	fset := token.NewFileSet()
	source, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	add := func(e ast.Expr, around string) {
		if text := textOf(e); text != "" {
			answers[strings.Replace(around, "*", text, 1)] = fset.Position(e.Pos())
		}
	}
	ast.Inspect(source, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			switch args := n.Args; nameOf(n.Fun) {
			case "bad", "Fail", "Exceed":
				add(args[0], "*")
			case "no":
				add(args[1], "*")
			case "expected":
				add(args[0], "Expected * instead of %s")
			case "word", "parseTime":
				add(args[len(args)-1], "Expected *%s")
			}
		case *ast.CompositeLit:
			last := len(n.Elts) - 1
			switch {
			case last < 0:
			case nameOf(n.Type) == "errBye", nameOf(n.Type) == "refusal", n.Type == nil && last == 3: // a row of responses
				add(n.Elts[last], "*")
			case nameOf(n.Type) == "SyntaxError":
				for _, e := range n.Elts {
					if field, ok := e.(*ast.KeyValueExpr); ok && nameOf(field.Key) == "Text" {
						add(field.Value, "*")
					}
				}
			}
		}
		return true
	})
}

// nameOf returns the name of a function or type, without its package or what it is of.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// textOf returns a string literal, or the format of a fmt.Sprintf; "" for anything else.
func textOf(e ast.Expr) string {
	if call, ok := e.(*ast.CallExpr); ok && nameOf(call.Fun) == "Sprintf" {
		e = call.Args[0]
	}
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(literal.Value)
	if err != nil {
		return ""
	}
	return text
}
