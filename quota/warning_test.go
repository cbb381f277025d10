package quota

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestMarks(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	at := []int{90, 80, 95}
	for _, test := range []struct {
		use       Use
		was, want string
	}{
		{Use{Used: 79, Limit: n(100)}, "", ""},
		{Use{Used: 80, Limit: n(100)}, "", "80%"},
		{Use{Used: 99, Limit: n(100)}, "", "80% 90% 95%"},
		{Use{Used: 100, Limit: n(100)}, "", "80% 90% 95% full"},
		{Use{Used: 120, Limit: n(100)}, "", "80% 90% 95% full"},
		// What is raised is cleared when some more is free.
		{Use{Used: 98, Limit: n(100)}, "80% 90% 95% full", "80% 90% 95% full"},
		{Use{Used: 97, Limit: n(100)}, "80% 90% 95% full", "80% 90% 95%"},
		{Use{Used: 78, Limit: n(100)}, "80% 90%", "80%"},
		{Use{Used: 77, Limit: n(100)}, "80% 90%", ""},
		// Parts of a few are rounded up.
		{Use{Used: 4, Limit: n(5)}, "", "80%"},
		{Use{Used: 3, Limit: n(5)}, "80%", "80%"},
		{Use{Used: 2, Limit: n(5)}, "80%", ""},
		{Use{Used: 1, Limit: n(1)}, "", "80% 90% 95% full"},
		{Use{Used: 0, Limit: n(0)}, "", ""},
		{Use{Used: 1, Limit: n(0)}, "", "80% 90% 95% full"},
		// A soft limit is exceeded by what is above it.
		{Use{Used: 90, Limit: n(200), Soft: n(90)}, "", ""},
		{Use{Used: 91, Limit: n(200), Soft: n(90)}, "", "soft"},
		{Use{Used: 91, Limit: n(200), Soft: n(90), GraceOver: true}, "soft", "soft grace"},
		{Use{Used: 89, Limit: n(200), Soft: n(90)}, "soft grace", "soft"},
		{Use{Used: 88, Limit: n(200), Soft: n(90)}, "soft", ""},
		{Use{Used: 101, Soft: n(100)}, "", "80% 90% 95% soft"},
		{Use{Used: 100, Limit: n(100), Soft: n(300)}, "", "80% 90% 95% full"},
		{Use{Used: 100}, "80% full", ""},
		{Use{Used: math.MaxInt64, Limit: n(math.MaxInt64), Soft: n(math.MaxInt64 - 1)}, "", "80% 90% 95% soft full"},
	} {
		var was []Mark
		for _, m := range strings.Fields(test.was) {
			was = append(was, Mark(m))
		}
		var got []string
		for _, m := range test.use.Marks(at, was) {
			got = append(got, string(m))
		}
		if want := strings.Fields(test.want); !slices.Equal(got, want) {
			t.Errorf("%+v after %q: %q, want %q", test.use, test.was, got, want)
		}
	}
}
