package imapd

// PARTIAL: of what SEARCH finds and UID FETCH names, the part at some places,
// counted from either end (RFC 9394).

import (
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store/view"
)

// partial are places in a set, counted from 1.
type partial struct {
	first, last uint32 // as the client gave them; first may be the larger one
	fromEnd     bool
}

// partial-range       = partial-range-first / partial-range-last
// partial-range-first = nz-number ":" nz-number
// partial-range-last  = "-" nz-number ":" "-" nz-number
func readPartial(d *wire.Decoder) *partial {
	p := partial{fromEnd: d.TrySpecial('-')}
	p.first = d.NZNumber()
	d.Special(':')
	if p.fromEnd {
		d.Special('-')
	}
	p.last = d.NZNumber()
	return &p
}

func (p *partial) String() string {
	sign := ""
	if p.fromEnd {
		sign = "-"
	}
	return sign + numeral(p.first) + ":" + sign + numeral(p.last)
}

// of returns the messages of all that are at the places.
func (p *partial) of(all view.UIDSet) view.UIDSet {
	first, last, ok := p.within(all.Len())
	if !ok {
		return view.UIDSet{}
	}
	return all.Intersect(view.UIDSetOf(view.Range{First: all.Select(first), Last: all.Select(last)}))
}

// within returns the first and the last of the places that there are among n, if there is one.
func (p *partial) within(n int) (first, last int, ok bool) {
	first, last = int(min(p.first, p.last)), int(max(p.first, p.last))
	if p.fromEnd {
		first, last = n+1-last, n+1-first
	}
	first, last = max(first, 1), min(last, n)
	return first, last, first <= last
}
