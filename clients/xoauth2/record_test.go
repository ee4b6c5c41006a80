package xoauth2_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
)

// zoe is whose records are in testdata. record-go.json is what encoding/json makes of an
// azidentity.AuthenticationRecord (azidentity v1.15.0; a test in internal/interop compares
// them). record-python.json is what json.dumps (Python 3.11) makes of the dict that
// AuthenticationRecord.serialize passes to it (Azure/azure-sdk-for-python,
// sdk/identity/azure-identity/azure/identity/_auth_record.py, commit 126fba10).
func zoe(authority string) xoauth2.AuthenticationRecord {
	return xoauth2.AuthenticationRecord{
		Authority:     authority,
		ClientID:      "aaaaaaaa-0000-0000-0000-000000000001",
		HomeAccountID: "00000000-0000-0000-66f3-3332eca7ea81.9188040d-6c67-4c5b-b112-36a304b66dad",
		TenantID:      "9188040d-6c67-4c5b-b112-36a304b66dad",
		Username:      `zoë+"𝄞"\<a&b>@contoso.test`,
		Version:       "1.0",
	}
}

func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A record is read and written as other libraries write it.
func TestRecordGolden(t *testing.T) {
	t.Parallel()
	for file, authority := range map[string]string{
		"record-go.json":     "https://login.microsoftonline.com",
		"record-python.json": "login.microsoftonline.com",
	} {
		text, want := golden(t, file), zoe(authority)
		got, err := xoauth2.ParseAuthenticationRecord(text)
		if err != nil || got != want {
			t.Errorf("%s is read as another one: %v", file, err)
		}
		if !bytes.Equal(got.Encode(), text) {
			t.Errorf("%s is written as %s", file, got.Encode())
		}
		var again xoauth2.AuthenticationRecord
		if err := json.Unmarshal(text, &again); err != nil || again != want {
			t.Errorf("encoding/json reads another one from %s: %v", file, err)
		}
		compact, err := json.Marshal(want) // always as Go has it
		if err != nil || bytes.Equal(compact, text) != (file == "record-go.json") {
			t.Errorf("%s: encoding/json writes %s, %v", file, compact, err)
		}
		var back xoauth2.AuthenticationRecord
		if err := json.Unmarshal(compact, &back); err != nil || back != want {
			t.Errorf("%s: what encoding/json writes is read as another one: %v", file, err)
		}
	}
}

// record is the JSON of a record whose members are changed: nil takes one away.
func record(t testing.TB, changes map[string]any) string {
	t.Helper()
	members := map[string]any{
		"authority": "https://a.example", "clientId": "client", "homeAccountId": "marker-home",
		"tenantId": "tenant", "username": "marker-user", "version": "1.0",
	}
	for name, value := range changes {
		if members[name] = value; value == nil {
			delete(members, name)
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestParseRecord(t *testing.T) {
	t.Parallel()
	whole := record(t, nil)
	for name, text := range map[string]string{
		"any order":         whole, // json.Marshal sorts: it is another order than ours
		"space around it":   " \r\n\t" + whole + "\n",
		"escapes":           strings.ReplaceAll(whole, "marker-user", `\u006darker\u002duser`),
		"no tenant":         record(t, map[string]any{"tenantId": ""}),
		"no user name":      record(t, map[string]any{"username": ""}),
		"just small enough": whole + strings.Repeat(" ", 16<<10-len(whole)),
	} {
		r, err := xoauth2.ParseAuthenticationRecord([]byte(text))
		if err != nil || r.HomeAccountID != "marker-home" || r.Username != "" && r.Username != "marker-user" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"nothing":            "",
		"a space":            " ",
		"no JSON":            "marker",
		"null":               "null",
		"text":               `"marker"`,
		"a number":           "1",
		"a list":             "[" + whole + "]",
		"no members":         "{}",
		"cut off":            whole[:len(whole)-1],
		"cut off in a text":  whole[:len(whole)-3],
		"more behind it":     whole + "x",
		"two":                whole + whole,
		"another brace":      whole + "}",
		"a byte order mark":  "\ufeff" + whole,
		"a comma at its end": whole[:len(whole)-1] + ",}",
		"huge":               "{" + strings.Repeat(" ", 16<<10) + whole[1:],
		"huge member":        record(t, map[string]any{"username": strings.Repeat("marker", 4<<10)}),
		"deep":               `{"authority":` + strings.Repeat("[", 8000) + strings.Repeat("]", 8000) + "}",
		"deep and unclosed":  strings.Repeat(`{"authority":`, 1000),
		"an object inside":   record(t, map[string]any{"username": map[string]any{"marker": 1}}),
		"a list inside":      record(t, map[string]any{"username": []string{"marker"}}),
		"a number inside":    record(t, map[string]any{"tenantId": 7}),
		"a boolean inside":   record(t, map[string]any{"tenantId": true}),
		"null inside":        strings.Replace(whole, `"marker-user"`, "null", 1),
		"unknown member":     record(t, map[string]any{"marker": "marker"}),
		"other case":         strings.Replace(whole, "clientId", "clientID", 1),
		"twice":              whole[:len(whole)-1] + `,"username":"marker"}`,
		"twice, escaped":     whole[:len(whole)-1] + `,"\u0075sername":"marker"}`,
		"twice, other case":  whole[:len(whole)-1] + `,"Username":"marker"}`,
		"version 2":          record(t, map[string]any{"version": "2.0"}),
		"version 1":          record(t, map[string]any{"version": "1"}),
		"version, number":    record(t, map[string]any{"version": 1.0}),
		"version, empty":     record(t, map[string]any{"version": ""}),
		"not UTF-8":          strings.Replace(whole, "marker-user", "marker\xff", 1),
		"not UTF-8, a name":  strings.Replace(whole, "username", "usernam\xe9", 1),
		"half a pair":        strings.Replace(whole, "marker-user", `marker\ud834`, 1),
		"a replacement":      strings.Replace(whole, "marker-user", "marker\ufffd", 1),
		"a control":          strings.Replace(whole, "marker-user", "marker\x1b[2J", 1),
		"an escaped control": strings.Replace(whole, "marker-user", `marker\u001b[2J`, 1),
		"a line break":       strings.Replace(whole, "marker-home", `marker\n`, 1),
		"a zero":             strings.Replace(whole, "marker-home", `marker\u0000`, 1),
		"right to left":      strings.Replace(whole, "marker-user", "marker\u202egnp", 1),
		"authority, control": strings.Replace(whole, "a.example", `a\u0007.example`, 1),
		// Azure.Identity for .NET, AuthenticationRecord.cs.
		".NET": `{"username":"marker-user","authority":"a.example","homeAccountId":"marker-home","tenantId":"tenant","clientId":"client"}`,
	} {
		r, err := xoauth2.ParseAuthenticationRecord([]byte(text))
		if !errors.Is(err, xoauth2.ErrRecord) || r != (xoauth2.AuthenticationRecord{}) {
			t.Errorf("%s: read with %v", name, err)
		}
		clean(t, err, "marker", "tenant\"", "example", "gnp")
		before := zoe("https://a.example")
		r = before
		switch err := json.Unmarshal([]byte(text), &r); {
		case name == "null":
			if err != nil || r != before {
				t.Errorf("null: it is changed, or %v", err)
			}
		case err == nil || r != before:
			t.Errorf("%s: with encoding/json: it is changed, or %v", name, err)
		default:
			clean(t, err, "marker", "gnp")
		}
	}
	for _, name := range []string{"authority", "clientId", "homeAccountId", "tenantId", "username", "version"} {
		if _, err := xoauth2.ParseAuthenticationRecord([]byte(record(t, map[string]any{name: nil}))); !errors.Is(err, xoauth2.ErrRecord) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// Names of people are kept as they are: with the joiners of Persian, or spaces of Japanese.
func TestRecordNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"marker علی\u200cرضا", "marker\u3000太郎", "marker\u00a0é", "marker क्\u200dष"} {
		for _, authority := range []string{"https://a.example", "a.example"} {
			want := zoe(authority)
			want.Username = name
			got, err := xoauth2.ParseAuthenticationRecord(want.Encode())
			if err != nil || got != want {
				t.Errorf("a name is not read back: %v", err)
			}
		}
	}
}

// A record in a log shows nobody.
func TestRecordPrints(t *testing.T) {
	t.Parallel()
	r, err := xoauth2.ParseAuthenticationRecord([]byte(record(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		fmt.Fprintf(&all, verb+"\n", r)
		fmt.Fprintf(&all, verb+"\n", &r)
		fmt.Fprintf(&all, verb+"\n", struct{ R xoauth2.AuthenticationRecord }{r})
		fmt.Fprintf(&all, verb+"\n", []xoauth2.AuthenticationRecord{r})
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&all, nil), slog.NewJSONHandler(&all, nil)} {
		slog.New(h).Info("signed in", "record", r, "pointer", &r)
	}
	if strings.Contains(all.String(), "marker-") || strings.Contains(all.String(), "tenant") ||
		strings.Count(all.String(), "authentication record") != 8*4+4 {
		t.Error("a record shows what is in it")
	}
}

// What comes from a file: it is a record that is written again as one, or an error that
// says nothing of it.
func FuzzParseRecord(f *testing.F) {
	f.Add(golden(f, "record-go.json"))
	f.Add(golden(f, "record-python.json"))
	f.Add([]byte(record(f, nil)))
	f.Add([]byte(record(f, map[string]any{"authority": "\"\\<>& é𝄞"})))
	f.Add([]byte(`{"version":"1.0","version":"\ud800"}`))
	f.Add([]byte("[[{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := xoauth2.ParseAuthenticationRecord(text)
		if err != nil {
			if !errors.Is(err, xoauth2.ErrRecord) || r != (xoauth2.AuthenticationRecord{}) || len(err.Error()) > 120 {
				t.Errorf("refused with %v", err)
			}
			return
		}
		var plain map[string]string // as any other library reads it
		if err := json.Unmarshal(text, &plain); err != nil || len(plain) != 6 || plain["homeAccountId"] != r.HomeAccountID {
			t.Errorf("what was accepted is no JSON object of six texts: %v", err)
		}
		compact, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, written := range [][]byte{r.Encode(), compact} {
			again, err := xoauth2.ParseAuthenticationRecord(written)
			if err != nil && len(written) <= 16<<10 || err == nil && (again != r || !bytes.Equal(again.Encode(), r.Encode())) {
				t.Errorf("%q is written as %q: %v", text, written, err)
			}
		}
	})
}
