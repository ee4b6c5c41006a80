package xoauth2

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"
)

// Where hostile values would send a browser that was led to them: nowhere.
func TestLocalPath(t *testing.T) {
	t.Parallel()
	tests := map[string]string{ // "" is refused
		"/":                    "/",
		"/reports":             "/reports",
		"/reports/7?a=b&c=%20": "/reports/7?a=b&c=%20",
		"/a#part":              "/a#part",
		"/a//b":                "/a//b",
		"/a/?next=//evil.test": "/a/?next=//evil.test", // it is the page's affair
		"/a/?..":               "/a/?..",
		"/%2f%2fevil.test":     "/%2f%2fevil.test", // browsers leave it as it is
		"/%5cevil.test":        "/%5cevil.test",
		"/..a/b..":             "/..a/b..",
		"/über?q=ü":            "/%C3%BCber?q=%C3%BC",
		"/user:pass@evil.test": "/user:pass@evil.test",
		"/:80/":                "/:80/",
		`/a"<>^{|}` + "`":      "/a%22%3C%3E%5E%7B%7C%7D%60",
		"/javascript:alert(1)": "/javascript:alert(1)",

		"":                                     "",
		"reports":                              "",
		"?a":                                   "",
		"#a":                                   "",
		"//evil.test":                          "",
		"//evil.test/%2f..":                    "",
		"///evil.test":                         "",
		"////evil.test":                        "",
		`/\evil.test`:                          "",
		`\/evil.test`:                          "",
		`\\evil.test`:                          "",
		`/a\..\\evil.test`:                     "",
		"/\t/evil.test":                        "",
		"/\n/evil.test":                        "",
		"/\r\n/evil.test":                      "",
		"/\x00/evil.test":                      "",
		"/\x7f":                                "",
		" //evil.test":                         "",
		"/ /evil.test":                         "",
		"\t//evil.test":                        "",
		"/a\r\nSet-Cookie: a=b":                "",
		"/.//evil.test":                        "",
		"/a/..//evil.test":                     "",
		"/%2e//evil.test":                      "",
		"/%2E%2e//evil.test":                   "",
		"/.%2e//evil.test":                     "",
		"/./\\evil.test":                       "",
		"/a/.":                                 "",
		"/a/..":                                "",
		"/a/../b":                              "",
		"/a/..?x":                              "",
		"/a/..#x":                              "",
		"https://evil.test/":                   "",
		"http:/evil.test":                      "",
		"https:evil.test":                      "",
		"javascript:alert(1)":                  "",
		"JavaScript:alert(1)":                  "",
		"data:text/html,x":                     "",
		"@evil.test":                           "",
		"evil.test":                            "",
		"\xff/":                                "",
		"/\xff":                                "",
		"/\xc0\xaf/evil.test":                  "", // an overlong slash
		"/%":                                   "",
		"/%zz":                                 "",
		"/" + strings.Repeat("a", maxReturnTo): "",
	}
	for in, want := range tests {
		got, ok := localPath(in)
		if got != want || ok != (want != "") {
			t.Errorf("%.60q: got %q, %t", in, got, ok)
		}
		checkLocal(t, got, ok)
	}
}

// checkLocal follows the path as browsers do.
func checkLocal(t *testing.T, path string, ok bool) {
	t.Helper()
	if !ok {
		return
	}
	base, err := url.Parse("https://app.test/callback")
	if err != nil {
		t.Fatal(err)
	}
	u, err := base.Parse(path)
	if err != nil || u.Scheme != "https" || u.Host != "app.test" || u.User != nil {
		t.Errorf("%q leads to %v, %v", path, u, err)
	}
	if strings.HasPrefix(u.EscapedPath(), "//") || strings.ContainsFunc(path, func(c rune) bool { return c <= ' ' || c > '~' || c == '\\' }) {
		t.Errorf("%q may lead elsewhere", path)
	}
}

func FuzzLocalPath(f *testing.F) {
	for _, s := range []string{"/", "//evil", "/%2f/evil", "/a/../b", "/\t/x", `/\x`, "/a?b#c", "/%2e%2e//x", "/ü", "/%2f\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		path, ok := localPath(s)
		checkLocal(t, path, ok)
		if again, same := localPath(path); ok && (!same || again != path) {
			t.Errorf("%q is not what it becomes: %q, %t", path, again, same)
		}
	})
}

// Where a user goes on, by what the browser says.
func TestReturnTo(t *testing.T) {
	t.Parallel()
	w := &Web{client: &Client{config: &oauth2.Config{RedirectURL: "https://app.test/auth/callback"}}, signInPath: "/auth/signin"}
	tests := map[string]struct {
		method, target, referer string
		program                 bool
		want                    string
	}{
		"a page":                 {target: "/reports/7?year=2026", referer: "https://app.test/x", want: "/reports/7?year=2026"},
		"its head":               {method: "HEAD", target: "/reports", want: "/reports"},
		"a form":                 {method: "POST", target: "/write", referer: "https://app.test/form?id=7", want: "/form?id=7"},
		"a form, only origin":    {method: "POST", target: "/write", referer: "https://app.test", want: "/"},
		"a form, no referer":     {method: "POST", target: "/write", want: "/"},
		"another site's":         {method: "POST", target: "/write", referer: "https://evil.test/form", want: "/"},
		"another port's":         {method: "POST", target: "/write", referer: "https://app.test:444/form", want: "/"},
		"without TLS":            {method: "POST", target: "/write", referer: "http://app.test/form", want: "/"},
		"a host as the path":     {method: "POST", target: "/write", referer: "https://app.test//evil.test", want: "/"},
		"another method":         {method: "DELETE", target: "/write", referer: "https://app.test/form", want: "/form"},
		"a script":               {target: "/api/me", referer: "https://app.test/dash", program: true, want: "/dash"},
		"two slashes":            {target: "//evil.test/", want: "/"},
		"absolute":               {target: "http://evil.test/x", want: "/"},
		"the sign-in":            {target: "/auth/signin?step=x", want: "/"},
		"the sign-in, in code":   {target: "/auth/sign%69n", want: "/"},
		"the callback":           {target: "/auth/callback?state=x", want: "/"},
		"a form on the callback": {method: "POST", target: "/x", referer: "https://app.test/auth/callback?code=x", want: "/"},
		"too long":               {target: "/" + strings.Repeat("a", maxReturnTo), want: "/"},
		"after it was encoded":   {target: "/?q=" + strings.Repeat("ü", maxReturnTo/3), want: "/"},
	}
	for name, test := range tests {
		if test.method == "" {
			test.method = "GET"
		}
		r := httptest.NewRequest(test.method, "/", nil)
		r.RequestURI = test.target
		r.Header.Set("Referer", test.referer)
		if got := w.returnTo(r, test.program); got != test.want {
			t.Errorf("%s: got %.80q, want %q", name, got, test.want)
		}
	}
	stripped := httptest.NewRequest(http.MethodGet, "/app/page", nil)
	stripped.URL.Path = "/page"
	if got := w.returnTo(stripped, false); got != "/app/page" {
		t.Errorf("with a prefix that was stripped: %q", got)
	}
}

// Programs get no redirect.
func TestProgram(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode, accept string
		want         bool
	}{
		"navigation":             {"navigate", "text/html,application/xhtml+xml,*/*;q=0.8", false},
		"script":                 {"cors", "*/*", true},
		"script, same origin":    {"same-origin", "text/html", true},
		"image":                  {"no-cors", "image/png", true},
		"old browser":            {"", "text/html,application/xhtml+xml,*/*;q=0.8", false},
		"old browser's script":   {"", "*/*", true},
		"JSON":                   {"", "application/json", true},
		"problem JSON":           {"", "application/problem+json, application/json", true},
		"event stream":           {"", "text/event-stream", true},
		"JSON by navigation":     {"navigate", "application/json", true},
		"HTML or JSON":           {"", "text/html, application/json;q=0.5", false},
		"nothing":                {"", "", false},
		"navigation to anything": {"navigate", "*/*", false},
	}
	for name, test := range tests {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Sec-Fetch-Mode", test.mode)
		r.Header.Set("Accept", test.accept)
		if got := (&Web{}).program(r); got != test.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}
