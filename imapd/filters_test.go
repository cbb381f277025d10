package imapd

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"mailstead.dev/imapd/wire"
)

// programText returns a random search program, whose keys are among names.
func programText(r *rand.Rand, names []string) string {
	var key func(depth int) string
	list := func(depth int) string {
		keys := []string{key(depth)}
		for r.IntN(2) == 0 {
			keys = append(keys, key(depth))
		}
		return strings.Join(keys, " ")
	}
	key = func(depth int) string {
		switch n := r.IntN(8); {
		case depth == 0 || n < 4:
			return names[r.IntN(len(names))]
		case n == 4:
			return "NOT " + key(depth-1)
		case n == 5:
			return "(" + list(depth-1) + ")"
		}
		return "OR " + key(depth-1) + " " + key(depth-1)
	}
	return list(3)
}

// spelled is a key as a program.
func (k *searchKey) spelled() string {
	switch k.op {
	case opLarger:
		return fmt.Sprint("LARGER ", k.number)
	case opNot:
		return "NOT " + k.kids[0].spelled()
	case opOr:
		return "OR " + k.kids[0].spelled() + " " + k.kids[1].spelled()
	}
	var all []string
	for _, kid := range k.kids {
		all = append(all, kid.spelled())
	}
	return "(" + strings.Join(all, " ") + ")"
}

// A filter in a program, and in another filter, is as if its text stood there (RFC 5466 section 3.1).
func TestFiltersAreVerbatim(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 5466))
		leaves := []string{"LARGER 1", "LARGER 2", "LARGER 3"}
		inner := programText(r, leaves)
		outer := programText(r, append(leaves, "FILTER inner"))
		line := programText(r, append(leaves, "FILTER inner", "FILTER outer"))
		c := readSearchCmd(decoderOf(" "+line), false)
		for len(c.filters) > 0 {
			some := c.filters
			c.filters = nil
			for _, k := range some {
				if err := c.readFilter(k, map[string]string{"inner": inner, "outer": outer}[k.filter], wire.DecoderOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.key.inline()
		text := strings.ReplaceAll(strings.ReplaceAll(line, "FILTER outer", outer), "FILTER inner", inner)
		if got := c.key.spelled(); got != "("+text+")" {
			t.Fatalf("%q with the filters %q and %q becomes %s, not (%s)", line, outer, inner, got, text)
		}
	}
}
