// Stands for the pause container, whose pod waits; with -v for what kubeadm tries a cluster with; and, called coredns, for something that
// says it is ready and resolves nothing.
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void bye(int s) { (void)s; exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0); }

static int listening(unsigned short port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
  int s = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (s < 0 || bind(s, (struct sockaddr *)&at, sizeof at) || listen(s, 8)) exit(1);
  return s;
}

int main(int count, char **words) {
  signal(SIGINT, bye);
  signal(SIGTERM, bye);
  signal(SIGCHLD, reap);
  signal(SIGPIPE, SIG_IGN);
  if (count > 1 && !strcmp(words[1], "-v")) return 0;
  if (!strstr(words[0], "coredns")) for (;;) pause();
  // Liveness and readiness, where kubeadm's manifest asks for them (cmd/kubeadm/app/phases/addons/dns/manifests.go).
  struct pollfd doors[] = {{listening(8080), POLLIN, 0}, {listening(8181), POLLIN, 0}};
  static const char yes[] = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK";
  for (;;) {
    poll(doors, 2, -1);
    for (int i = 0; i < 2; i++) {
      char heard[4096];
      int c = doors[i].revents & POLLIN ? accept(doors[i].fd, 0, 0) : -1;
      if (c < 0) continue;
      if (read(c, heard, sizeof heard) > 0 && write(c, yes, sizeof yes - 1) < 0) exit(1);
      close(c);
    }
  }
}
