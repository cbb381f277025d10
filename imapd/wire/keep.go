package wire

import (
	"bytes"
	"strconv"
)

// kept is what has been read of a command, as it came, for who has to pass it on.
type kept struct {
	text      []byte
	mailboxes []string
}

// UseKeep sets DecoderOptions.Keep, between two commands or behind what a command goes on reading from. What has been kept is let go of.
func (d *Decoder) UseKeep(on bool) { d.o.Keep, d.kept = on, kept{} }

// Kept returns what was read since it was called last, where commands are kept: the text as it came, but without the end of the line, and the names of
// mailboxes in it. Literals in it are such as are not waited for. Of one that streams, its head is there and not its octets.
func (d *Decoder) Kept() (text []byte, mailboxes []string) {
	text, mailboxes = d.kept.text, d.kept.mailboxes
	d.kept = kept{}
	return text, mailboxes
}

// keep keeps an octet of a line.
func (d *Decoder) keep(c byte) {
	if d.o.Keep {
		d.kept.text = append(d.kept.text, c)
	}
}

// keepHead makes the head of a literal, which has been kept, one that is not waited for.
func (d *Decoder) keepHead(size int64) {
	if !d.o.Keep {
		return
	}
	text := d.kept.text[:bytes.LastIndexByte(d.kept.text, '{')+1]
	d.kept.text = append(strconv.AppendInt(text, size, 10), "+}\r\n"...)
}

// keepOctets keeps what was in a literal.
func (d *Decoder) keepOctets(octets []byte) {
	if d.o.Keep {
		d.kept.text = append(d.kept.text, octets...)
	}
}

// keepMailbox keeps the name of a mailbox.
func (d *Decoder) keepMailbox(name string) {
	if d.o.Keep {
		d.kept.mailboxes = append(d.kept.mailboxes, name)
	}
}

// weight is how often what is in a literal is in memory.
func (d *Decoder) weight() int64 {
	if d.o.Keep {
		return literalWeight + 1
	}
	return literalWeight
}
