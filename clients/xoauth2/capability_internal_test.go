package xoauth2

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestWithCapability(t *testing.T) {
	t.Parallel()
	const alone = `{"access_token":{"xms_cc":{"values":["cp1"]}}}`
	for claims, want := range map[string]string{
		"":                        alone,
		"null":                    alone,
		" null\n":                 alone,
		"{}":                      alone,
		`{"access_token":null}`:   alone,
		alone:                     alone,
		`{"id_token":{"a":null}}`: `{"id_token":{"a":null},"access_token":{"xms_cc":{"values":["cp1"]}}}`,
		`{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}`: `{"access_token":{"nbf":{"essential":true,"value":"1604106651"},"xms_cc":{"values":["cp1"]}}}`,
		`{"access_token":{"n":12345678901234567890}}`:                      `{"access_token":{"n":12345678901234567890,"xms_cc":{"values":["cp1"]}}}`,
		`{"access_token":{"xms_cc":null}}`:                                 alone,
		`{"access_token":{"xms_cc":{"values":["CP1"]}}}`:                   `{"access_token":{"xms_cc":{"values":["CP1"]}}}`,
		`{"access_token":{"xms_cc":{"values":["p"],"essential":true}}}`:    `{"access_token":{"xms_cc":{"values":["p","cp1"],"essential":true}}}`,

		"x": "", "[]": "", `"cp1"`: "", "{": "", alone + alone: "",
		`{"access_token":[]}`: "", `{"access_token":"cp1"}`: "", `{"access_token":{"xms_cc":["cp1"]}}`: "",
		`{"access_token":{"xms_cc":{"values":"cp1"}}}`: "", `{"access_token":{"xms_cc":{"values":[1]}}}`: "",
	} {
		got, err := withCapability(claims, true)
		if want == "" {
			if err == nil || got != "" {
				t.Errorf("%s: got %s, want an error", claims, got)
			}
			continue
		}
		if err != nil || !sameJSON(t, got, want) {
			t.Errorf("%s: got %s, %v", claims, got, err)
		}
		if again, err := withCapability(got, true); err != nil || again != got {
			t.Errorf("%s: once more it is %s, %v", got, again, err)
		}
		if same, err := withCapability(claims, false); err != nil || same != claims {
			t.Errorf("%s: unwanted, it is %s, %v", claims, same, err)
		}
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y map[string]map[string]json.RawMessage
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil || len(x) != len(y) {
		return false
	}
	for name := range x {
		for member, text := range x[name] {
			var v, w any
			exact := string(text) == string(y[name][member]) // numbers too
			if json.Unmarshal(text, &v) != nil || !exact && (json.Unmarshal(y[name][member], &w) != nil || !reflect.DeepEqual(v, w)) {
				return false
			}
		}
		if len(x[name]) != len(y[name]) {
			return false
		}
	}
	return true
}
