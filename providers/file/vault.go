package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// vault reads and changes the file of a cache.
type vault struct {
	disk   disk
	opts   Options
	turn   chan struct{}        // has room for the one of this process who writes
	seen   atomic.Pointer[view] // what the file had when it was last read or written
	closed atomic.Bool
	ring   atomic.Pointer[tokencache.KeyRing] // the key that was used last

	asking chan struct{} // has room for the goroutine that asks for a key
	tried  bool          // to find a store for a file that is not encrypted; guarded by asking
}

// view is what a file has.
type view struct {
	header header
	ring   *tokencache.KeyRing // nil: not encrypted
	absent bool                // there is no file
	doc    *document
}

const (
	// lockTime bounds the wait for the lock, also of a caller who would wait longer.
	lockTime = 10 * time.Second
	lockPoll = 2 * time.Millisecond
)

func newVault(o *Options) *vault {
	return &vault{disk: disk{dir: o.Dir, name: o.Name}, opts: *o, turn: make(chan struct{}, 1), asking: make(chan struct{}, 1)}
}

// read returns what is stored. No lock is needed: a file is replaced as a whole.
func (v *vault) read(ctx context.Context) (*document, error) {
	for {
		w, err := v.look(ctx)
		if !errors.Is(err, errDamaged) {
			if err != nil {
				return nil, err
			}
			return w.doc, nil
		}
		if err := v.replaceDamaged(ctx); err != nil {
			return nil, err
		}
	}
}

// look reads the file as it is, unless it still has the tag that was seen last.
func (v *vault) look(ctx context.Context) (*view, error) {
	if v.closed.Load() {
		return nil, errClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := v.disk.open(dataFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &view{absent: true, doc: newDocument()}, nil
	}
	if err != nil {
		return nil, explain(err)
	}
	defer func() { _ = f.Close() }()
	var head [headerSize]byte
	n, err := io.ReadFull(f, head[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, explain(err)
	}
	last := v.seen.Load()
	if last != nil && n == headerSize && string(head[:len(magic)]) == magic && tag(head[10:]) == last.header.tag {
		return last, nil
	}
	rest, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, explain(err)
	}
	w, err := v.open(ctx, append(head[:n:n], rest...))
	if err == nil {
		v.keep(w, w.ring)
	}
	return w, err
}

// open decrypts and decodes the bytes of a file.
func (v *vault) open(ctx context.Context, b []byte) (*view, error) {
	h, body, err := parse(b)
	if err != nil {
		return nil, err
	}
	var ring *tokencache.KeyRing
	if h.by != protectedNot {
		ring, err = v.keyOf(ctx, &h, keyID(body))
	} else if !v.opts.AllowUnencryptedStorage {
		err = errPlain
	}
	if err != nil {
		return nil, err
	}
	doc, err := unseal(&h, body, ring)
	if err != nil {
		return nil, err
	}
	return &view{header: h, ring: ring, doc: doc}, nil
}

// change replaces what is stored by what edit makes of a copy. Where edit fails, or
// returns errSame, nothing is written.
func (v *vault) change(ctx context.Context, edit func(d *document, now time.Time) error) error {
	unlock, err := v.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	w, err := v.lookLocked(ctx)
	if err != nil {
		if damaged := (*CorruptError)(nil); errors.As(err, &damaged) {
			v.opts.Log.WarnContext(ctx, err.Error()) // a Cache tries again, and then it goes well
		}
		return err
	}
	now := time.Now()
	next := w.doc.clone(now)
	if err := edit(next, now); err != nil {
		if errors.Is(err, errSame) {
			return nil
		}
		return err
	}
	return v.write(ctx, w, next)
}

// begin is an edit that writes a file where there is none: the key and the disk are found
// out about before there is anything to lose.
func (v *vault) begin(*document, time.Time) error {
	if w := v.seen.Load(); w != nil {
		return errSame // another process was first
	}
	return nil
}

// keep remembers what was read or written, and the key, of which either may be nil.
func (v *vault) keep(w *view, ring *tokencache.KeyRing) {
	if w != nil {
		v.seen.Store(w)
	}
	if ring != nil {
		v.ring.Store(ring)
	}
	if v.closed.Load() {
		v.forget() // Close has come meanwhile
	}
}

// close forgets the key and the tokens.
func (v *vault) close() {
	v.closed.Store(true)
	v.forget()
}

func (v *vault) forget() {
	v.seen.Store(nil)
	v.ring.Store(nil)
}

// errSame is returned by an edit that has changed nothing.
var errSame = errors.New("nothing has changed")

// write puts the document into the place of what was read. The caller has the lock.
func (v *vault) write(ctx context.Context, over *view, d *document) error {
	h, ring, err := v.sealing(ctx, over)
	if err != nil {
		return err
	}
	b, err := seal(&h, d, ring)
	if err != nil {
		return err
	}
	if err := v.disk.replace(dataFile, b, true); err != nil {
		return explain(err)
	}
	v.keep(&view{header: h, ring: ring, doc: d}, ring)
	return nil
}

// lock waits for the turn of this process, and of this goroutine in it.
func (v *vault) lock(ctx context.Context) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err // nobody has kept the caller waiting
	}
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	select {
	case v.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, v.disk.lockedOut(ctx, lockFile)
	}
	defer func() {
		if err != nil {
			<-v.turn
		}
	}()
	if v.closed.Load() {
		return nil, errClosed
	}
	free, err := v.disk.lock(ctx, lockFile)
	if err != nil {
		return nil, err
	}
	return func() {
		free()
		<-v.turn
	}, nil
}

// replaceDamaged sets the file aside, unless another process has done that meanwhile.
func (v *vault) replaceDamaged(ctx context.Context) error {
	unlock, err := v.lock(ctx)
	if err != nil {
		return fmt.Errorf("file: the token cache is damaged, and could not be set aside: %w", err)
	}
	defer unlock()
	_, err = v.lookLocked(ctx)
	return err
}

// lookLocked is look for who has the lock: a damaged file is set aside.
func (v *vault) lookLocked(ctx context.Context) (*view, error) {
	w, err := v.look(ctx)
	if !errors.Is(err, errDamaged) {
		return w, err
	}
	path, err := v.disk.setAside()
	if err != nil {
		return nil, fmt.Errorf("file: the token cache is damaged, and could not be set aside: %w", explain(err))
	}
	return nil, &CorruptError{Path: path}
}
