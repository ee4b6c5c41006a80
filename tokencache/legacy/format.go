package legacy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Format is a format of a token cache.
type Format uint8

const (
	// Empty is no tokens: nothing but white space is stored.
	Empty Format = iota
	// Unified is the schema that all of Microsoft's libraries share now, "MSAL v3".
	Unified
	// MSALv2 is what MSAL.NET 2 wrote; see the package comment.
	MSALv2
	// ADALv3 is what ADAL.NET 3 to 5 wrote; see the package comment.
	ADALv3
)

// String is the name that MSAL.NET's documentation has for the format.
func (f Format) String() string {
	switch f {
	case Empty:
		return "empty"
	case Unified:
		return "MSAL v3"
	case MSALv2:
		return "MSAL v2"
	case ADALv3:
		return "ADAL v3"
	}
	return fmt.Sprintf("format %d", uint8(f))
}

// byteOrderMark may stand before a text that went through an editor or a script.
const byteOrderMark = "\xEF\xBB\xBF"

// detect tells the format by the first byte that means something, and returns the
// content without what stands before it.
func detect(b []byte) (Format, []byte, error) {
	if len(b) >= 4 && binary.LittleEndian.Uint32(b) == adalVersion {
		return ADALv3, b, nil
	}
	text := bytes.Trim(bytes.TrimPrefix(b, []byte(byteOrderMark)), " \t\r\n")
	switch {
	case len(text) == 0:
		return Empty, nil, nil
	case text[0] == '{':
		return Unified, text, nil
	case text[0] == '[':
		return MSALv2, text, nil
	}
	return Empty, nil, &malformed{err: errors.New("in no format that is known")}
}

// Read replaces the contents of t with what b holds, in whatever format, and
// tells which it was. It is [Empty], and so is t, if b is blank. A byte order mark
// before JSON is passed over. b is not kept.
//
// In the place of [tokencache.Tokens.Deserialize] in a hook that reads
// ([tokencache.Hook]), it takes over what an older application has left; what is written
// afterwards is the unified format.
//
// The error is [tokencache.ErrTooLarge] if b, or what it says in the unified schema,
// has more than [tokencache.MaxTokensSize] bytes, or else wraps
// [tokencache.ErrUnreadable] and says where the fault is, without a word of b. The
// format is then the one that b seemed to be in, and t as it was.
func Read(t *tokencache.Tokens, b []byte) (Format, error) {
	if len(b) > tokencache.MaxTokensSize {
		return Empty, tokencache.ErrTooLarge
	}
	f, content, err := detect(b)
	if err != nil {
		return f, err
	}
	switch f {
	case Empty:
		*t = tokencache.Tokens{}
		return f, nil
	case MSALv2:
		content, err = unifyMSAL(content)
	case ADALv3:
		content, err = unifyADAL(content)
	}
	if err == nil {
		err = t.UnmarshalJSON(content)
	}
	if err != nil && !errors.Is(err, tokencache.ErrTooLarge) {
		return f, &malformed{format: f, err: err}
	}
	return f, err
}

// Write returns the tokens in the format, as far as it has room for them: see the
// package comment. They are the tokens themselves: for encrypted storage, not for
// logs. The error is [tokencache.ErrTooLarge] if there are more than
// [tokencache.MaxTokensSize] bytes, [tokencache.ErrUnreadable] for tokens that do not
// decode, or another for a format that is none to write.
func Write(t *tokencache.Tokens, f Format) ([]byte, error) {
	if f == Unified {
		return t.MarshalJSON()
	}
	if f != MSALv2 && f != ADALv3 {
		return nil, fmt.Errorf("legacy: %v cannot be written", f)
	}
	d, err := documentOf(t)
	if err != nil {
		return nil, err
	}
	b := d.write(f)
	if len(b) > tokencache.MaxTokensSize {
		return nil, tokencache.ErrTooLarge
	}
	return b, nil
}

func (d *document) write(f Format) []byte {
	switch f {
	case MSALv2:
		return d.writeMSAL()
	case ADALv3:
		return d.writeADAL()
	}
	return d.json()
}

// malformed says what is wrong with a cache that does not decode. It is
// [tokencache.ErrUnreadable].
type malformed struct {
	format Format // Empty: not known
	err    error
}

// Error has nothing of the input.
func (e *malformed) Error() string {
	if e.format == Empty {
		return "legacy: the tokens are " + e.err.Error()
	}
	return fmt.Sprintf("legacy: %v: %v", e.format, e.err)
}

func (e *malformed) Unwrap() []error { return []error{e.err, tokencache.ErrUnreadable} }
