package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/textproto"
	"os"
	"strings"
	"sync/atomic"
)

// inMemory is how much of a message is held in memory before a file takes it.
const inMemory = 1 << 20

// headerLimit is how far a Message-ID is looked for.
const headerLimit = 64 << 10

// Spool holds one message while it arrives, so that only whole messages come into
// plain files, and so that it is known how its lines end before it is written. It is used
// again for the next message.
type Spool struct {
	root  *os.Root
	buf   bytes.Buffer
	file  *os.File // takes what is too large for memory; it has no name any more
	inUse bool     // the file is
	size  int64
	sum   hash.Hash
	last  byte
	raw   bool
}

var spools atomic.Int64

// NewSpool returns an empty one.
func (a *Archive) NewSpool() *Spool { return &Spool{root: a.root, sum: sha256.New()} }

// Reset makes it empty.
func (s *Spool) Reset() {
	s.buf.Reset()
	s.sum.Reset()
	s.size, s.last, s.raw, s.inUse = 0, 0, false, false
}

// Close gives the disk space back.
func (s *Spool) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

func (s *Spool) Write(p []byte) (int, error) {
	s.sum.Write(p)
	s.lookAtLines(p)
	s.size += int64(len(p))
	if s.inUse {
		return s.file.Write(p)
	}
	if s.size <= inMemory {
		return s.buf.Write(p)
	}
	if err := s.spill(); err != nil {
		return 0, err
	}
	return s.file.Write(p)
}

func (s *Spool) lookAtLines(p []byte) {
	for at := 0; !s.raw; {
		n := bytes.IndexByte(p[at:], '\n')
		if n < 0 {
			break
		}
		before := s.last
		if at+n > 0 {
			before = p[at+n-1]
		}
		s.raw = before != '\r'
		at += n + 1
	}
	if len(p) > 0 {
		s.last = p[len(p)-1]
	}
}

func (s *Spool) spill() error {
	if s.file == nil {
		name := fmt.Sprintf("%s.%d.%d", spoolName, os.Getpid(), spools.Add(1))
		file, err := s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := s.root.Remove(name); err != nil {
			return errors.Join(err, file.Close())
		}
		s.file = file
	}
	if err := s.file.Truncate(0); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s.inUse = true
	_, err := s.file.Write(s.buf.Bytes())
	return err
}

// Size is how long the message is so far.
func (s *Spool) Size() int64 { return s.size }

// Raw reports whether a line of it ends with LF alone.
func (s *Spool) Raw() bool { return s.raw }

// Sum is the SHA-256 sum.
func (s *Spool) Sum() (sum [32]byte) {
	s.sum.Sum(sum[:0])
	return sum
}

// Text returns the message.
func (s *Spool) Text() io.Reader {
	if s.inUse {
		return io.NewSectionReader(s.file, 0, s.size)
	}
	return bytes.NewReader(s.buf.Bytes())
}

// MessageID returns what stands in the field of this name, or "".
func (s *Spool) MessageID() string { return MessageID(s.Text()) }

// MessageID finds the Message-ID in a header.
func MessageID(header io.Reader) string {
	const longest = 250
	r := textproto.NewReader(bufio.NewReaderSize(io.LimitReader(header, headerLimit), 4096))
	for {
		line, err := r.ReadContinuedLineBytes()
		if len(line) == 0 {
			return ""
		}
		name, value, found := strings.Cut(string(line), ":")
		if found && strings.EqualFold(strings.TrimSpace(name), "Message-ID") {
			value = strings.TrimSpace(value)
			return value[:min(len(value), longest)]
		}
		if err != nil {
			return ""
		}
	}
}
