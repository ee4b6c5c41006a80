package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coatcheck-go/coatcheck/middleware"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// response is a ResponseWriter with a header of its own, as net/http makes one for
// each request.
type response struct{ header http.Header }

func (w *response) Header() http.Header         { return w.header }
func (w *response) Write(b []byte) (int, error) { return len(b), nil }
func (w *response) WriteHeader(int)             {}

// page is a handler that asks for no token.
var page = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
})

// A request that asks for no token costs at most three allocations. This test is not
// parallel, as the count is that of the whole process.
func TestAllocations(t *testing.T) {
	cache := newCache(t, newStore(t), "https://login.example")
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	count := func(h http.Handler) float64 {
		return testing.AllocsPerRun(1000, func() { h.ServeHTTP(&response{header: http.Header{}}, r) })
	}
	bare := count(page)
	got := count(middleware.LoadAndSave(cache, prepared(tokencache.AccountKey("alice")))(page))
	if got-bare > 3 {
		t.Errorf("%v allocations, %v without the middleware: want at most 3 more", got, bare)
	}
}

func BenchmarkLoadAndSave(b *testing.B) {
	cache := newCache(b, newStore(b), "https://login.example")
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for name, h := range map[string]http.Handler{
		"bare":    page,
		"wrapped": middleware.LoadAndSave(cache, prepared(tokencache.AccountKey("alice")))(page),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(&response{header: http.Header{}}, r)
			}
		})
	}
}
