// Every word of the page, in the two languages it speaks.

const english = {
  text: "Text",
  voice: "Voice",
  format: "Format",
  speed: "Speed",
  instructions: "How to speak (choose one, or write it; may stay empty)",
  key: "API key (whoever runs this server knows it)",
  speak: "Speak",
  stop: "Stop",
  download: "Download",
  firstAudio: "Time to first audio",
  realTimeFactor: "Real-time factor",
  duration: "Length",
  sample: "你好，世界。Hello, world 3.14!",
  preview: "Preview voice",
  ready: "Ready",
  starting: "Starting…",
  asleep: "Asleep, and off the graphics card: the first request wakes it",
  preparing: (what) => `Starting: ${what}`,
  failed: "Cannot speak: the warm-up failed",
  stalled: "The synthesis is stuck; restarting",
  stopping: "Shutting down",
  retiring: "A newer server has taken over",
  idle: "Nobody needs it: this machine is being switched off",
  broken: "The engine has failed; restarting",
  switchedOff: (minutes) => `Without a request this machine is switched off in ${minutes} min.`,
  keepOn: "Keep it on",
  unreachable: "The server does not answer",
  brokenOff: "The sound broke off before its end. What has arrived can be heard and downloaded.",
  lost: "The connection broke before any sound arrived. Please try again.",
  unplayable: "This browser cannot play this format. It can still be downloaded.",
  retry: (seconds) => `Try again in ${seconds} s.`,
  load: (active, most) => `${active} of ${most} streams`,
  replicas: (ready, all) => `${ready} of ${all} replicas`,
  restarts: (count, reason) => `restarted ${count === 1 ? "once" : `${count} times`} (it ${reason})`,
};

const chinese = {
  text: "文本",
  voice: "音色",
  format: "格式",
  speed: "语速",
  instructions: "说话方式（可选择或自行填写，也可留空）",
  key: "API 密钥（可向服务器管理者索取）",
  speak: "朗读",
  stop: "停止",
  download: "下载",
  firstAudio: "首包延迟",
  realTimeFactor: "实时率",
  duration: "时长",
  sample: "你好，世界。Hello, world 3.14!",
  preview: "预览语音",
  ready: "就绪",
  starting: "正在启动…",
  asleep: "休眠中，已让出显卡；首个请求会将其唤醒",
  preparing: (what) => `正在启动：${what}`,
  failed: "无法合成：预热失败",
  stalled: "合成已停滞，正在重启",
  stopping: "正在关闭",
  retiring: "新的服务器已接管",
  idle: "无人使用，本机正在关机",
  broken: "引擎出错，正在重启",
  switchedOff: (minutes) => `若无新的请求，本机将在 ${minutes} 分钟后关机。`,
  keepOn: "取消自动关机",
  unreachable: "服务器没有响应",
  brokenOff: "音频在结束前中断，已收到的部分仍可收听和下载。",
  lost: "连接在收到音频之前中断，请重试。",
  unplayable: "此浏览器无法播放该格式，但仍可下载。",
  retry: (seconds) => `请在 ${seconds} 秒后重试。`,
  load: (active, most) => `正在合成 ${active}/${most} 路`,
  replicas: (ready, all) => `副本 ${ready}/${all}`,
  restarts: (count, reason) => `已重启 ${count} 次（${reason}）`,
};

export const isChinese = navigator.language.toLowerCase().startsWith("zh");
export const texts = isChinese ? chinese : english;

export function translatePage() {
  document.documentElement.lang = isChinese ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = texts[element.dataset.text];
  }
}
