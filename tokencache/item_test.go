package tokencache

import (
	"strings"
	"testing"
	"time"
)

func TestParseItem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"empty", `{}`, `{}`},
		{"sorted", `{"b":1,"a":2}`, `{"a":2,"b":1}`},
		{"nulls are dropped", `{"secret":null,"x":null,"y":[null]}`, `{"y":[null]}`},
		{"known empty texts are dropped", `{"secret":"","realm":"","username":"","x":""}`, `{"x":""}`},
		{"known texts lose needless escapes", `{"realm":"\u0061\/\"","x":"\u0061"}`, `{"realm":"a/\"","x":"\u0061"}`},
		{"escaped names", `{"\u0073ecret":"s"}`, `{"secret":"s"}`},
		{"other known texts are kept as they are", `{"username":5,"kid":["k"]}`, `{"kid":["k"],"username":5}`},
		{"space", "{ \"x\" : { \"a\" : 1 } , \"y\":2}", `{"x":{ "a" : 1 },"y":2}`},
		{"times", `{"cached_at":7,"expires_on":"8","refresh_on":9.9,"extended_expires_on":" 10 "}`,
			`{"cached_at":"7","expires_on":"8","extended_expires_on":"10","refresh_on":"9"}`},
		{"times that are none", `{"cached_at":"soon","expires_on":-1,"refresh_on":[1],"extended_expires_on":0,"ext_expires_on":true}`, `{}`},
		{"times beyond reason", `{"cached_at":"9223372036854775807","expires_on":1e300,"refresh_on":"1e9","ext_expires_on":"NaN"}`,
			`{"cached_at":"253402300799","refresh_on":"1000000000"}`},
	} {
		it, err := parseItem("key", []byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got, _ := it.append(nil); string(got) != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestParseItemRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a list":            `["marker"]`,
		"a text":            `"marker"`,
		"secret a number":   `{"secret":4711}`,
		"secret an object":  `{"secret":{"marker":"marker"}}`,
		"account a list":    `{"home_account_id":["marker"]}`,
		"a name twice":      `{"marker":1,"x":2,"marker":"marker"}`,
		"escaped twice":     `{"a":1,"\u0061":"marker"}`,
		"a null name twice": `{"a":null,"a":null}`,
	} {
		_, err := parseItem("marker", []byte(text))
		if err == nil || strings.Contains(err.Error(), "marker") || strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: got the error %v", name, err)
		}
	}
}

func TestItemSet(t *testing.T) {
	t.Parallel()
	it := &item{}
	it.set("b", "2")
	it.set("a", "1")
	it.set("c", "\xff")
	it.setTime("t", testNow)
	it.setTime("u", time.Time{})
	it.setTime("v", time.Unix(-5, 0))
	it.set("b", "")
	it.set("a", "3")
	it.set("x", "")
	want := `{"a":"3","c":"` + "\uFFFD" + `","t":"1795246000"}`
	if got, _ := it.append(nil); string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if it.text("a") != "3" || it.text("none") != "" || it.unix("t") != testNow.Unix() || it.unix("none") != 0 {
		t.Error("the accessors do not read what was set")
	}
}

func TestItemAppendFindsTheSecret(t *testing.T) {
	t.Parallel()
	it, err := parseItem("", []byte(`{"a":1,"secret":"s\"x","z":2}`))
	if err != nil {
		t.Fatal(err)
	}
	b, secret := it.append([]byte("before"))
	if got := string(b[secret.offset : secret.offset+secret.length]); got != `"s\"x"` {
		t.Errorf("got %s", got)
	}
}
