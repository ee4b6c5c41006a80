package file_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/providers/file"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func passphrase(text string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return []byte(text), nil }
}

// A file under a passphrase opens with it and with nothing else, and stays as it is where
// it does not.
func TestPassphrase(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	p := open(t, withPhrase(dir))
	if err := p.Save(t.Context(), name("x"), record("marker-x"), always); err != nil {
		t.Fatal(err)
	}
	mustHold(t, open(t, withPhrase(dir)), name("x"), "marker-x")
	path := filepath.Join(dir, "default.tokens")
	before, err := os.ReadFile(path)
	if err != nil || bytes.Contains(before, []byte("marker")) || bytes.Contains(before, []byte("owner")) {
		t.Fatal("the file can be read:", err)
	}
	refused := errors.New("the user has closed the window")
	for what, tt := range map[string]struct {
		options file.Options
		want    error
		says    string
	}{
		"another one":    {file.Options{Passphrase: passphrase("marker-other")}, file.ErrKey, "passphrase is another one"},
		"none":           {file.Options{}, file.ErrKey, "none was given"},
		"plain allowed":  {file.Options{AllowUnencryptedStorage: true}, file.ErrKey, "none was given"},
		"an empty one":   {file.Options{Passphrase: passphrase("")}, nil, "empty"},
		"an error of it": {file.Options{Passphrase: func(context.Context) ([]byte, error) { return nil, refused }}, refused, "window"},
	} {
		tt.options.Dir = dir
		_, err := file.Open(t.Context(), &tt.options)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: %v, want %q", what, err, tt.says)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Error("the file was changed:", err)
	}
}

// The bytes of a passphrase do not stay in memory.
func TestPassphraseOverwritten(t *testing.T) {
	t.Parallel()
	given := []byte("marker-passphrase")
	open(t, &file.Options{Dir: directory(t), Passphrase: func(context.Context) ([]byte, error) { return given, nil }})
	if !bytes.Equal(given, make([]byte, len(given))) {
		t.Error("it is still there")
	}
}

// Who has begun a file is not asked again for its passphrase when another process has
// written.
func TestPassphraseOnce(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	var asked atomic.Int64
	first := open(t, &file.Options{Dir: dir, Passphrase: func(context.Context) ([]byte, error) {
		asked.Add(1)
		return []byte("marker-passphrase"), nil
	}})
	if err := open(t, withPhrase(dir)).Save(t.Context(), name("x"), record("marker-x"), always); err != nil {
		t.Fatal(err)
	}
	mustHold(t, first, name("x"), "marker-x")
	if n := asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}

// While one call waits for somebody to type a passphrase, others wait no longer than
// they like, and Close does not wait.
func TestAskingHoldsUpNobody(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	typed, asking := make(chan struct{}), make(chan struct{}, 10)
	var slow atomic.Bool
	p := open(t, &file.Options{Dir: dir, Passphrase: func(ctx context.Context) ([]byte, error) {
		if slow.Load() {
			asking <- struct{}{}
			<-typed
		}
		return []byte("marker-passphrase"), nil
	}})
	if _, err := file.SetAside(t.Context(), withPhrase(dir)); err != nil {
		t.Fatal(err)
	}
	open(t, withPhrase(dir)) // with another salt
	slow.Store(true)
	ended := make(chan error, 1)
	go func() {
		_, err := p.Load(t.Context(), name("x"))
		ended <- err
	}()
	<-asking
	within := func(what string, f func()) {
		done := make(chan struct{})
		go func() { f(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error(what, "waits for the passphrase of another call")
		}
	}
	within("Load", func() {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := p.Load(ctx, name("x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	within("Close", func() { _ = p.Close(t.Context()) })
	close(typed)
	if err := <-ended; !errors.Is(err, tokencache.ErrNotFound) {
		t.Error(err)
	}
}
