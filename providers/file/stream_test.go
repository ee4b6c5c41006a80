package file_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// The bytes of one process are another one's records.
func TestStream(t *testing.T) {
	t.Parallel()
	var kept []byte
	updates := 0
	stream := file.NewStream(func(_ context.Context, s *file.Stream) error {
		var b bytes.Buffer
		err := s.Serialize(&b)
		kept, updates = b.Bytes(), updates+1
		return err
	})
	r := record("marker-x")
	if err := stream.Save(t.Context(), name("x"), r, tokencache.Condition{}); err != nil {
		t.Fatal(err)
	}
	if err := stream.SetMark(t.Context(), "owner", tokencache.NewVersion(), r.Expires); err != nil {
		t.Fatal(err)
	}
	if err := stream.Save(t.Context(), name("x"), r, tokencache.Condition{}); err == nil {
		t.Error("a save that should not be was made")
	}
	if updates != 2 {
		t.Errorf("it told of %d changes, want 2", updates)
	}
	next := file.NewStream(nil)
	if err := next.Save(t.Context(), name("y"), record("marker-y"), always); err != nil {
		t.Fatal(err)
	}
	if err := next.Deserialize(bytes.NewReader(kept)); err != nil {
		t.Fatal(err)
	}
	mustHold(t, next, name("x"), "marker-x")
	if _, err := next.Load(t.Context(), name("y")); !errors.Is(err, tokencache.ErrNotFound) {
		t.Error("Deserialize adds to what was there:", err)
	}
	if got, err := next.Load(t.Context(), name("x")); err != nil || got.Version != r.Version || got.Mark == (tokencache.Version{}) {
		t.Errorf("version or mark are lost: %v", err)
	}
	if err := next.Deserialize(strings.NewReader("")); err != nil {
		t.Error("of nothing:", err)
	}
	if names, _, err := next.Names(t.Context(), ""); err != nil || len(names) != 0 {
		t.Errorf("of nothing there are %d records, %v", len(names), err)
	}
}

// Who cannot keep the bytes keeps nothing, and says so.
func TestStreamNotKept(t *testing.T) {
	t.Parallel()
	refused := errors.New("the vault is closed")
	var refuse error
	stream := file.NewStream(func(context.Context, *file.Stream) error { return refuse })
	if err := stream.Save(t.Context(), name("x"), record("marker-x"), always); err != nil {
		t.Fatal(err)
	}
	refuse = refused
	if err := stream.Save(t.Context(), name("x"), record("marker-other"), always); !errors.Is(err, refused) {
		t.Error(err)
	}
	mustHold(t, stream, name("x"), "marker-x")
}

func TestStreamRefuses(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	stream := file.NewStream(nil)
	if err := stream.Save(t.Context(), name("x"), record("marker-x"), always); err != nil {
		t.Fatal(err)
	}
	if err := stream.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	_, encrypted := filled(t, file.Options{})
	broken := errors.New("broken")
	for what, r := range map[string]io.Reader{
		"half":           bytes.NewReader(b.Bytes()[:b.Len()/2]),
		"JSON":           strings.NewReader("{}"),
		"an encrypted":   bytes.NewReader(encrypted),
		"a broken":       iotest.ErrReader(broken),
		"an endless one": endless{},
	} {
		err := stream.Deserialize(r)
		if err == nil || strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: %v", what, err)
		}
		mustHold(t, stream, name("x"), "marker-x")
	}
	if err := stream.Serialize(failing{broken}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A cache over a stream encrypts, or is told not to; what it stores is found by the next
// process.
func TestStreamCache(t *testing.T) {
	t.Parallel()
	ns := tokencache.Namespace{Issuer: "https://issuer.example", ClientID: "client"}
	if _, err := tokencache.New(file.NewStream(nil), ns, nil); err == nil {
		t.Error("tokens would leave the process unencrypted")
	}
	var kept bytes.Buffer
	var mu sync.Mutex
	stream := file.NewStream(func(_ context.Context, s *file.Stream) error {
		mu.Lock()
		defer mu.Unlock()
		kept.Reset()
		return s.Serialize(&kept)
	})
	keys, err := tokencache.LoadKeys(t.Context(), func(context.Context) ([]byte, error) { return tokencache.NewKeyText(), nil })
	if err != nil {
		t.Fatal(err)
	}
	cache := newCache(t, stream, &tokencache.Options{Keys: keys})
	signIn(t, cache)
	if bytes.Contains(kept.Bytes(), []byte("marker")) {
		t.Error("the bytes show tokens")
	}
	next := file.NewStream(nil)
	if err := next.Deserialize(&kept); err != nil {
		t.Fatal(err)
	}
	accounts, err := newCache(t, next, &tokencache.Options{Keys: keys}).Accounts(t.Context())
	if err != nil || len(accounts) != 1 || accounts[0].Username != "ada" {
		t.Errorf("%d accounts, %v", len(accounts), err)
	}
}

// While one change waits for updated, others wait no longer than they like; a change
// that updated has panicked over has not happened.
func TestStreamUpdatedIsSlow(t *testing.T) {
	t.Parallel()
	busy, done := make(chan struct{}), make(chan struct{})
	what := func() { close(busy); <-done }
	stream := file.NewStream(func(context.Context, *file.Stream) error { what(); return nil })
	ended := make(chan error, 2)
	go func() { ended <- stream.Save(t.Context(), name("x"), record("marker-x"), always) }()
	<-busy
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	go func() { ended <- stream.Save(ctx, name("y"), record("marker-y"), always) }()
	select {
	case err := <-ended:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Save waits beyond its deadline")
		ended <- nil
	}
	close(done)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	what = func() { panic("a bug") }
	func() {
		defer func() { _ = recover() }()
		_ = stream.Save(t.Context(), name("x"), record("marker-other"), always)
	}()
	mustHold(t, stream, name("x"), "marker-x")
}
