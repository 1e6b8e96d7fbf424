#include <signal.h>
#include <unistd.h>
#include <stdlib.h>
#include <sys/wait.h>
static void bye(int s){(void)s;exit(0);}
static void reap(int s){(void)s;while(waitpid(-1,0,WNOHANG)>0);}
int main(void){signal(SIGINT,bye);signal(SIGTERM,bye);signal(SIGCHLD,reap);for(;;)pause();}
