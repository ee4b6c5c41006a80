package tokencache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadKeys(t *testing.T) {
	text := NewKeyText()
	want, err := parseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COATCHECK_TEST_KEYS", string(text))
	for what, source := range map[string]KeySource{
		"file":     KeyFile(file),
		"variable": KeyVariable("COATCHECK_TEST_KEYS"),
		"function": func(context.Context) ([]byte, error) { return text, nil },
	} {
		keys, err := LoadKeys(t.Context(), source)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if string(keys.Names) != string(want.Names) || keys.Seal.(*KeyRing).IDs()[0] != want.Seal.(*KeyRing).IDs()[0] {
			t.Errorf("%s: got other keys", what)
		}
	}
}

func TestLoadKeysRefuses(t *testing.T) {
	t.Setenv("COATCHECK_TEST_KEYS", "")
	secret := testKey("1")
	errManager := errors.New("the secret manager is down")
	long := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(long, []byte(strings.Repeat(" ", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		source KeySource
		is     error
		want   string
	}{
		"nil":               {nil, nil, "the key source is nil"},
		"no variable":       {KeyVariable("COATCHECK_TEST_NONE"), nil, "COATCHECK_TEST_NONE is empty"},
		"empty variable":    {KeyVariable("COATCHECK_TEST_KEYS"), nil, "COATCHECK_TEST_KEYS is empty"},
		"no file":           {KeyFile(long + "er"), fs.ErrNotExist, "longer"},
		"a directory":       {KeyFile(filepath.Dir(long)), nil, "is not a regular file"},
		"a long file":       {KeyFile(long), nil, "longer than 65536 bytes"},
		"a function's":      {func(context.Context) ([]byte, error) { return nil, errManager }, errManager, "secret manager is down"},
		"a raw key":         {func(context.Context) ([]byte, error) { return secret, nil }, nil, "not JSON"},
		"a key, no set":     {func(context.Context) ([]byte, error) { return []byte(b64(secret)), nil }, nil, "not JSON"},
		"nothing":           {func(context.Context) ([]byte, error) { return nil, nil }, nil, "not JSON"},
		"a long text":       {func(context.Context) ([]byte, error) { return make([]byte, 64<<10+1), nil }, nil, "longer than"},
		"the context's end": {func(ctx context.Context) ([]byte, error) { return nil, ctx.Err() }, context.Canceled, "canceled"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		keys, err := LoadKeys(ctx, tt.source)
		if err == nil || keys != nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: got %v, want %q", what, err, tt.want)
			continue
		}
		showsNothing(t, what, err, secret)
	}
}

func TestCreateKeyFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := CreateKeyFile(file); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeys(t.Context(), KeyFile(file)); err != nil {
		t.Errorf("the file does not load: %v", err)
	}
	before, _ := os.ReadFile(file)
	err := CreateKeyFile(file)
	if after, _ := os.ReadFile(file); !errors.Is(err, fs.ErrExist) || string(after) != string(before) {
		t.Errorf("creating it again gave %v, or changed it", err)
	}
	if err := CreateKeyFile(filepath.Join(file, "no directory")); err == nil {
		t.Error("a file was made within a file")
	}
}
