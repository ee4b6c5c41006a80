package tokencache

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMembers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		object string
		want   []string
	}{
		{`{}`, nil},
		{"{ \t\r\n}", nil},
		{`{"a":1}`, []string{`"a"`, `1`}},
		{"{\n \"a\" :\t-1.5e3 ,\r\n\"b\": true\n}", []string{`"a"`, `-1.5e3`, `"b"`, `true`}},
		{`{"a":"}\",","b":{"c":[1,{"d":"]"}]},"e":[] , "f":""}`, []string{
			`"a"`, `"}\","`, `"b"`, `{"c":[1,{"d":"]"}]}`, `"e"`, `[]`, `"f"`, `""`,
		}},
		{`{"a\\":null}`, []string{`"a\\"`, `null`}},
	} {
		if err := checkJSON([]byte(tt.object)); err != nil {
			t.Errorf("%s: %v", tt.object, err)
		}
		var got []string
		for name, value := range members([]byte(tt.object)) {
			got = append(got, string(name), string(value))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.object, got, tt.want)
		}
	}
	for range members([]byte(`{"a":1,"b":2}`)) {
		break // the loop may end early
	}
}

func TestCheckJSONRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":          "",
		"cut":            `{"a":"marker`,
		"no JSON":        "marker",
		"trailing":       `{} marker`,
		"trailing comma": `{"a":1,}`,
		"not UTF-8":      "{\"a\":\"marker\xff\"}",
		"control":        "{\"a\":\"marker\n\"}",
		"deep objects":   strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1),
		"deep lists":     strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
		"deeper":         strings.Repeat("[", 8000) + strings.Repeat("]", 8000),
	} {
		if err := checkJSON([]byte(text)); err == nil || strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: got the error %v", name, err)
		}
	}
	allowed := strings.Repeat(`{"a":`, maxDepth) + `"[[["` + strings.Repeat("}", maxDepth)
	if err := checkJSON([]byte(allowed)); err != nil {
		t.Errorf("%d levels: %v", maxDepth, err)
	}
}

func TestUnquote(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`""`: "", `"a"`: "a", `"\u0061\n"`: "a\n", `"\\"`: `\`, `"\ud800"`: "\uFFFD",
	} {
		if got, ok := unquote([]byte(value)); !ok || got != want {
			t.Errorf("%s: got %q, %v", value, got, ok)
		}
	}
	for _, value := range []string{"", `"`, "1", "null", "{}", `"a`, `a"`, `"a"b"`, `"\x"`, `"\"`} {
		if got, ok := unquote([]byte(value)); ok {
			t.Errorf("%s: got %q", value, got)
		}
	}
}

func TestAppendQuoted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "text")
		quoted := appendQuoted(nil, want)
		var byStd string
		if err := json.Unmarshal(quoted, &byStd); err != nil || byStd != want {
			t.Fatalf("encoding/json reads %q, %v", byStd, err)
		}
		if got, ok := unquote(quoted); !ok || got != want {
			t.Fatalf("unquote reads %q", got)
		}
	})
}
