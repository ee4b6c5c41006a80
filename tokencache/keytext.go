package tokencache

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// maxKeyText bounds the text of a key set, in bytes.
const maxKeyText = 64 << 10

// NewKeyText returns the text of a new key set (see [LoadKeys]): a line with
// a name key and one key that seals, both drawn at random. Whoever sees the text
// can read every token that is sealed with it. [CreateKeyFile] writes one to a
// file.
func NewKeyText() []byte {
	return []byte(`{"names":"` + newKeyText() + `","seal":["` + newKeyText() + `"]}` + "\n")
}

func newKeyText() string {
	for {
		k := make([]byte, KeySize)
		_, _ = rand.Read(k)     // never fails (crypto/rand, Go 1.24)
		if checkKey(k) == nil { // but for bad luck
			return base64.StdEncoding.EncodeToString(k)
		}
	}
}

// keySet is a key set's text, decoded; parseKeys makes keys of it.
type keySet struct {
	names   []byte
	seal    [][]byte
	revoked []sealKeyID
}

// parseKeys reads the text of a key set. Its errors show nothing of it.
func parseKeys(text []byte) (*Keys, error) {
	set, err := parseKeySet(text)
	if err != nil {
		return nil, fmt.Errorf("tokencache: key set: %w", err)
	}
	ring, err := makeRing(set.seal, set.revoked)
	if err != nil {
		return nil, fmt.Errorf("tokencache: key set: seal: %w", err)
	}
	keys := &Keys{Names: set.names, Seal: ring}
	if err := keys.check(); err != nil {
		return nil, err
	}
	return keys, nil
}

func parseKeySet(text []byte) (*keySet, error) {
	if len(text) > maxKeyText {
		return nil, fmt.Errorf("it is longer than %d bytes", maxKeyText)
	}
	object, err := keyObject(text)
	if err != nil {
		return nil, err
	}
	var set keySet
	seen := map[string]bool{}
	for quoted, value := range members(object) {
		name, _ := unquote(quoted)
		switch name {
		case "names":
			set.names, err = decodeKey(value)
		case "seal":
			set.seal, err = decodeList(value, decodeKey)
		case "revoked":
			set.revoked, err = decodeList(value, decodeKeyID)
		default: // not quoted: it may be a key that slipped
			return nil, errors.New("it has a member that is not names, seal or revoked")
		}
		switch {
		case seen[name]:
			return nil, fmt.Errorf("%s is there twice", name)
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		seen[name] = true
	}
	if !seen["names"] || !seen["seal"] {
		return nil, errors.New("it needs names and seal")
	}
	return &set, nil
}

// keyObject returns the JSON object that the text is.
func keyObject(text []byte) ([]byte, error) {
	var object json.RawMessage
	var syntax *json.SyntaxError
	err := json.Unmarshal(text, &object)
	switch {
	case errors.As(err, &syntax): // its own text quotes the input
		return nil, fmt.Errorf("it is not JSON at byte %d", syntax.Offset)
	case err != nil || !isObject(object):
		return nil, errors.New("it is not a JSON object")
	}
	return object, nil
}

func decodeList[T any](value []byte, decode func([]byte) (T, error)) ([]T, error) {
	var values []json.RawMessage
	if err := json.Unmarshal(value, &values); err != nil || values == nil {
		return nil, errors.New("it is not an array")
	}
	list := make([]T, len(values))
	for i := range values {
		var err error
		if list[i], err = decode(values[i]); err != nil {
			return nil, fmt.Errorf("number %d: %w", i+1, err)
		}
	}
	return list, nil
}

func decodeKey(value []byte) ([]byte, error) {
	text, ok := unquote(value)
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || base64.StdEncoding.EncodeToString(key) != text { // it takes line breaks and stray bits
		return nil, errors.New("not a key in padded base64 (RFC 4648 §4)")
	}
	return key, checkKey(key)
}

func decodeKeyID(value []byte) (id sealKeyID, err error) {
	text, ok := unquote(value)
	b, err := hex.DecodeString(text)
	if !ok || err != nil || len(b) != len(id) || hex.EncodeToString(b) != text {
		return id, errors.New("not a key ID: 8 lower-case hexadecimal digits")
	}
	return sealKeyID(b), nil
}
