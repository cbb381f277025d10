package order

import (
	"slices"

	"mailstead.dev/store/id"
)

// Message is what the mailbox tells of a message that is sorted or threaded. Those that are come in the order of their numbers.
type Message struct {
	Email   id.Email
	Arrival int64 // INTERNALDATE, in seconds after the epoch
	Size    int64

	Relevancy uint8 // the higher, the sooner it comes
}

// Criterion is what is sorted by (RFC 5256 section 3, RFC 5957 section 4, RFC 6203 section 6).
type Criterion uint8

// The criteria.
const (
	Arrival Criterion = iota
	Cc
	Date
	DisplayFrom
	DisplayTo
	From
	Relevancy
	Size
	Subject
	To
	Criteria // how many there are
)

// Key is a criterion, ascending or descending.
type Key struct {
	By      Criterion
	Reverse bool
}

// columnOf are the columns of criteria that are strings.
var columnOf = map[Criterion]textColumn{
	Cc: ccs, DisplayFrom: displayFroms, DisplayTo: displayTos, From: froms, Subject: subjects, To: tos,
}

// Sort returns the places in messages in the order of the keys: where two are alike in the first, of the next one, and
// where they are in all, of the messages. It reports false where an email is not in the table.
func (t *Table) Sort(messages []Message, keys []Key) (order []uint32, ok bool) {
	values := make([][]uint64, len(keys))
	for i, k := range keys {
		if values[i], ok = t.values(messages, k); !ok {
			return nil, false
		}
	}
	order = make([]uint32, len(messages))
	for i := range order {
		order[i] = uint32(i)
	}
	sortBy(order, values...)
	return order, true
}

// digitBits is how much of a number is sorted by at a time.
const digitBits = 11

// sortBy sorts places by the values there: the first ones, where those are alike the second ones, and so on; what is alike
// in all stays in its order. It counts how often each digit occurs instead of comparing, and so takes no longer where
// everything is in disorder.
func sortBy[N ~int32 | ~uint32](places []N, values ...[]uint64) {
	other := make([]N, len(places))
	from, to := places, other
	for _, column := range slices.Backward(values) {
		for shift, differ := 0, differing(column); differ>>shift > 0; shift += digitBits {
			if differ>>shift&(1<<digitBits-1) == 0 {
				continue
			}
			var starts [1 << digitBits]int
			for _, v := range column {
				starts[v>>shift&(1<<digitBits-1)]++
			}
			at := 0
			for digit, n := range starts {
				starts[digit], at = at, at+n
			}
			for _, place := range from {
				digit := column[place] >> shift & (1<<digitBits - 1)
				to[starts[digit]] = place
				starts[digit]++
			}
			from, to = to, from
		}
	}
	if len(places) > 0 && &from[0] != &places[0] {
		copy(places, from)
	}
}

// differing returns the bits in which some of the values differ.
func differing(values []uint64) (bits uint64) {
	for _, v := range values {
		bits |= v ^ values[0]
	}
	return bits
}

// Stored tells whether sorting by the key takes what emails say, and so the rows of a table.
func (k Key) Stored() bool { return k.By != Arrival && k.By != Size && k.By != Relevancy }

// values returns numbers that are in the order of a key of the messages.
func (t *Table) values(messages []Message, k Key) ([]uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	column, text := columnOf[k.By]
	if text {
		t.words.rank()
	}
	values := make([]uint64, len(messages))
	for i := range messages {
		m := &messages[i]
		row := 0
		if k.Stored() {
			var ok bool
			if row, ok = t.row(m.Email); !ok {
				return nil, false
			}
		}
		switch {
		case text:
			values[i] = uint64(t.words.ranks[t.texts[column][row]])
		case k.By == Arrival:
			values[i] = ordered(m.Arrival)
		case k.By == Size:
			values[i] = ordered(m.Size)
		case k.By == Relevancy:
			values[i] = uint64(^m.Relevancy)
		case k.By == Date:
			values[i] = ordered(t.date(m, row))
		}
		if k.Reverse {
			values[i] = ^values[i]
		}
	}
	return values, true
}

// ordered returns a number without a sign that is in the same order.
func ordered(n int64) uint64 { return uint64(n) ^ 1<<63 }

// date returns the sent date of a message (RFC 5256 section 2.2).
func (c *columns) date(m *Message, row int) int64 {
	if c.sent[row] == noDate {
		return m.Arrival
	}
	return c.sent[row]
}
