package blob

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"mailstead.dev/store/id"
)

// Spool is content received, compressed and digested, in memory while small, else in a temporary file.
type Spool struct {
	Digest id.Digest
	Layout Layout

	memory []byte
	file   *os.File // nil: all is in memory
}

// NewSpool reads r to its end. memory is how many stored octets are kept in memory; dir is for the
// rest, empty for the system's folder for temporary files. tee (may be nil) sees the content in the same pass.
func NewSpool(r io.Reader, memory int, dir string, tee io.Writer) (_ *Spool, err error) {
	s := &Spool{Layout: Layout{Encoding: EncodingZstd}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	digest := sha256.New()
	content := make([]byte, FrameSize)
	var stored []byte
	for {
		n, err := io.ReadFull(r, content)
		if n > 0 {
			digest.Write(content[:n])
			if tee != nil {
				if _, err := tee.Write(content[:n]); err != nil {
					return nil, err
				}
			}
			stored = appendFrame(stored[:0], content[:n])
			if err := s.add(stored, memory, dir); err != nil {
				return nil, err
			}
			s.Layout.Size += int64(n)
			s.Layout.Frames = append(s.Layout.Frames, int64(len(stored)))
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	digest.Sum(s.Digest[:0])
	return s, nil
}

// SpoolOf is NewSpool for content that is in memory, and stays there.
func SpoolOf(content []byte) *Spool {
	s := &Spool{Digest: sha256.Sum256(content), Layout: Layout{Encoding: EncodingZstd, Size: int64(len(content))}}
	for len(content) > 0 {
		n, before := min(len(content), FrameSize), len(s.memory)
		s.memory = appendFrame(s.memory, content[:n])
		s.Layout.Frames = append(s.Layout.Frames, int64(len(s.memory)-before))
		content = content[n:]
	}
	return s
}

// add appends a stored frame, and moves all to a file when it gets too much for memory.
func (s *Spool) add(frame []byte, memory int, dir string) error {
	if s.file == nil {
		if len(s.memory)+len(frame) <= memory {
			s.memory = append(s.memory, frame...)
			return nil
		}
		f, err := os.CreateTemp(dir, "mailstead-spool-*")
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		s.file = f
		// Nameless, it goes with the process, however that ends.
		if err := os.Remove(f.Name()); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		if _, err := f.Write(s.memory); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		s.memory = nil
	}
	if _, err := s.file.Write(frame); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// Bytes returns the stored form, if it is in memory.
func (s *Spool) Bytes() ([]byte, bool) { return s.memory, s.file == nil }

// Stored returns the stored form, from its beginning. It may be called again, for several readers at once.
func (s *Spool) Stored() io.ReadSeeker {
	if s.file == nil {
		return bytes.NewReader(s.memory)
	}
	return io.NewSectionReader(s.file, 0, s.Layout.StoredLen())
}

// Close forgets the content.
func (s *Spool) Close() error {
	s.memory = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
