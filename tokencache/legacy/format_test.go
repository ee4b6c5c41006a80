package legacy_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/legacy"
)

func TestGolden(t *testing.T) {
	t.Parallel()
	adal := readLayout(t, "adal-v3.txt")
	for name, tt := range map[string]struct {
		input  []byte
		format legacy.Format
		want   string
	}{
		"MSAL v2":           {readFile(t, "msal-v2.json"), legacy.MSALv2, "msal-v2.unified.json"},
		"MSAL v2 with mark": {append([]byte("\xEF\xBB\xBF \r\n"), readFile(t, "msal-v2.json")...), legacy.MSALv2, "msal-v2.unified.json"},
		"ADAL v3":           {adal, legacy.ADALv3, "adal-v3.unified.json"},
		"unified":           {readFile(t, "adal-v3.unified.json"), legacy.Unified, "adal-v3.unified.json"},
		"unified with mark": {append([]byte("\xEF\xBB\xBF"), readFile(t, "msal-v2.unified.json")...), legacy.Unified, "msal-v2.unified.json"},
	} {
		wantSame(t, name, unified(t, mustRead(t, tt.input, tt.format)), compact(t, readFile(t, tt.want)))
	}
	tokens := mustRead(t, adal, legacy.ADALv3)
	if !bytes.Equal(mustWrite(t, tokens, legacy.ADALv3), readLayout(t, "adal-v3.written.txt")) {
		t.Error("the ADAL v3 file that is written is another one")
	}
	if !bytes.Equal(mustWrite(t, tokens, legacy.ADALv3), mustWrite(t, tokens, legacy.ADALv3)) {
		t.Error("the same tokens are other bytes")
	}
}

func TestBlank(t *testing.T) {
	t.Parallel()
	for _, blank := range []string{"", " \r\n\t", "\xEF\xBB\xBF", "\xEF\xBB\xBF\n"} {
		tokens := mustRead(t, readFile(t, "msal-v2.json"), legacy.MSALv2)
		if f, err := legacy.Read(tokens, []byte(blank)); f != legacy.Empty || err != nil {
			t.Errorf("%q: got %v, %v", blank, f, err)
		}
		if len(tokens.Entries()) != 0 || len(tokens.Accounts()) != 0 {
			t.Errorf("%q: the tokens are not empty", blank)
		}
	}
}

// Each format can hold no tokens.
func TestEmptyDocuments(t *testing.T) {
	t.Parallel()
	for f, want := range map[legacy.Format]string{
		legacy.MSALv2: `[{"Key":"access_tokens","Value":[]},{"Key":"refresh_tokens","Value":[]},{"Key":"id_tokens","Value":[]},{"Key":"accounts","Value":[]}]`,
		legacy.ADALv3: "\x03\x00\x00\x00\x00\x00\x00\x00",
	} {
		b := mustWrite(t, &tokencache.Tokens{}, f)
		if string(b) != want {
			t.Errorf("%v: got %q", f, b)
		}
		if tokens := mustRead(t, b, f); len(tokens.Entries()) != 0 {
			t.Errorf("%v: not empty", f)
		}
	}
	mustRead(t, []byte("[]"), legacy.MSALv2)
	mustRead(t, []byte("{}"), legacy.Unified)
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no format":      "marker",
		"null":           "null",
		"a string":       `"marker"`,
		"binary":         "\x00\x01\x02\x03",
		"UTF-16":         "\xff\xfe{\x00}\x00",
		"two marks":      "\xEF\xBB\xBF\xEF\xBB\xBF{}",
		"another ADAL":   "\x04\x00\x00\x00\x00\x00\x00\x00",
		"ADAL, no count": "\x03\x00\x00\x00",
		"ADAL big end":   "\x00\x00\x00\x03\x00\x00\x00\x00",
		"a mark on ADAL": "\xEF\xBB\xBF\x03\x00\x00\x00\x00\x00\x00\x00",
		"unified":        `{"RefreshToken":{"marker":1}}`,
		"unified, cut":   `{"RefreshToken":{"marker`,
	} {
		refuses(t, name, []byte(text))
	}
}

func TestReadBounds(t *testing.T) {
	t.Parallel()
	pad := func(n int) []byte { return append([]byte("[]"), bytes.Repeat([]byte(" "), n-2)...) }
	mustRead(t, pad(tokencache.MaxTokensSize), legacy.MSALv2)
	tiny := "[{\"Key\":\"accounts\",\"Value\":[" + strings.Repeat(`"{}",`, 200_000) + `"{}"]}]`
	for name, b := range map[string][]byte{
		"a byte more":             pad(tokencache.MaxTokensSize + 1),
		"ADAL":                    append([]byte("\x03\x00\x00\x00"), make([]byte, tokencache.MaxTokensSize)...),
		"more when it is unified": []byte(tiny),
	} {
		tokens := mustRead(t, readFile(t, "msal-v2.json"), legacy.MSALv2)
		before := unified(t, tokens)
		if _, err := legacy.Read(tokens, b); !errors.Is(err, tokencache.ErrTooLarge) || errors.Is(err, tokencache.ErrUnreadable) {
			t.Errorf("%s: got %v", name, err)
		}
		if unified(t, tokens) != before {
			t.Errorf("%s: the tokens were changed", name)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	for _, f := range []legacy.Format{legacy.Empty, 4, 255} {
		if _, err := legacy.Write(&tokencache.Tokens{}, f); err == nil {
			t.Errorf("%v was written", f)
		}
	}
	// Texts of quotes are twice as long in a string.
	quotes := strings.Repeat(`\"`, tokencache.MaxTokensSize/2-200)
	tokens := mustRead(t, []byte(`{"RefreshToken":{"a":{"home_account_id":"u.t","environment":"e","client_id":"c","secret":"`+quotes+`"}}}`), legacy.Unified)
	for _, f := range []legacy.Format{legacy.MSALv2, legacy.ADALv3} {
		b, err := legacy.Write(tokens, f)
		if f == legacy.MSALv2 && !errors.Is(err, tokencache.ErrTooLarge) {
			t.Errorf("%v: %d bytes, %v", f, len(b), err)
		}
		if f == legacy.ADALv3 && err != nil {
			t.Errorf("%v: %v", f, err)
		}
	}
}

func TestFormatString(t *testing.T) {
	t.Parallel()
	for f, want := range map[legacy.Format]string{
		legacy.Empty: "empty", legacy.Unified: "MSAL v3", legacy.MSALv2: "MSAL v2", legacy.ADALv3: "ADAL v3", 9: "format 9",
	} {
		if f.String() != want {
			t.Errorf("got %q, want %q", f.String(), want)
		}
	}
}
