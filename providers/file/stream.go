package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Stream is a provider for programs that keep the bytes in a place of their own, such as
// the secret storage of an editor or of a phone. It keeps records in memory, tells of every change,
// and reads and writes all of them at once. It does not encrypt: a Cache over it needs
// [tokencache.Options].Keys, or AllowUnencryptedStorage where the place encrypts. It
// offers the capabilities of a [Provider] but Encrypts and Leaser: one process has it. It
// is safe for concurrent use.
type Stream struct {
	records
	memory *memory
}

// memory is the content of a Stream.
type memory struct {
	turn    chan struct{} // has room for the one who changes anything
	doc     atomic.Pointer[document]
	updated func(context.Context) error
}

var _ tokencache.Provider = (*Stream)(nil)

// NewStream returns a Stream with nothing in it. Unless it is nil, updated is called with
// it after each change, and before whoever has made the change goes on, one call at a
// time: it stores what [Stream.Serialize] writes, and makes no other change. If it returns
// an error, the change has not happened, and is the error of whoever made it.
//
//	stream := file.NewStream(func(ctx context.Context, s *file.Stream) error {
//		var b bytes.Buffer
//		return errors.Join(s.Serialize(&b), place.Put(ctx, b.Bytes()))
//	})
func NewStream(updated func(ctx context.Context, s *Stream) error) *Stream {
	s := &Stream{memory: &memory{turn: make(chan struct{}, 1)}}
	s.content = s.memory
	s.memory.doc.Store(newDocument())
	if updated != nil {
		s.memory.updated = func(ctx context.Context) error { return updated(ctx, s) }
	}
	return s
}

// Capabilities returns what it offers. See [tokencache.Provider].
func (s *Stream) Capabilities() tokencache.Capabilities {
	return tokencache.Capabilities{Local: true, Toucher: s, Owners: s, Sweeper: s, Pinger: s, Lister: s}
}

// Serialize writes everything that is stored: the tokens, unless the Cache has encrypted
// them. The format is that of a file of this package without protection; the error is
// w's.
func (s *Stream) Serialize(w io.Writer) error {
	b, err := seal(&header{}, s.memory.doc.Load(), nil)
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

// Deserialize replaces everything by what Serialize has written; nothing in r is nothing
// stored. Updated is not called. It reads at most 64 MiB. After an error, r's or one that
// says what is wrong with the bytes, everything is as before.
func (s *Stream) Deserialize(r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return fmt.Errorf("file: read the stream: %w", err)
	}
	doc := newDocument()
	if len(b) > 0 {
		if doc, err = parseStream(b); err != nil {
			return err
		}
	}
	s.memory.turn <- struct{}{}
	defer func() { <-s.memory.turn }()
	s.memory.doc.Store(doc)
	return nil
}

func parseStream(b []byte) (*document, error) {
	h, body, err := parse(b)
	if err == nil && h.by != protectedNot {
		return nil, errors.New("file: these are the bytes of an encrypted file, which Open opens")
	}
	if err == nil {
		var doc *document
		if doc, err = unseal(&h, body, nil); err == nil {
			return doc, nil
		}
	}
	if errors.Is(err, errDamaged) {
		err = errors.New("file: the bytes are not those that Serialize has written")
	}
	return nil, err
}

func (m *memory) read(ctx context.Context) (*document, error) { return m.doc.Load(), ctx.Err() }

func (m *memory) change(ctx context.Context, edit func(d *document, now time.Time) error) error {
	select { // updated may take as long as a network does
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	now, last := time.Now(), m.doc.Load()
	next := last.clone(now)
	if err := edit(next, now); err != nil {
		return err
	}
	m.doc.Store(next)
	if m.updated == nil {
		return nil
	}
	kept := false
	defer func() {
		if !kept { // also where updated panics
			m.doc.Store(last)
		}
	}()
	err := m.updated(ctx)
	kept = err == nil
	return err
}
