// The instructions that CosyVoice3 was trained with, as upstream lists them: what is sent, and what it is called.
// docs/voices.md has the same table. Any other words may be tried.

const inDialect = (name) => `请用${name}表达。`;

export const instructions = [
  [inDialect("广东话"), "Cantonese", "广东话"],
  [inDialect("东北话"), "Northeastern", "东北话"],
  [inDialect("甘肃话"), "Gansu", "甘肃话"],
  [inDialect("贵州话"), "Guizhou", "贵州话"],
  [inDialect("河南话"), "Henan", "河南话"],
  [inDialect("湖北话"), "Hubei", "湖北话"],
  [inDialect("湖南话"), "Hunan", "湖南话"],
  [inDialect("江西话"), "Jiangxi", "江西话"],
  [inDialect("闽南话"), "Southern Min", "闽南话"],
  [inDialect("宁夏话"), "Ningxia", "宁夏话"],
  [inDialect("山西话"), "Shanxi", "山西话"],
  [inDialect("陕西话"), "Shaanxi", "陕西话"],
  [inDialect("山东话"), "Shandong", "山东话"],
  [inDialect("上海话"), "Shanghainese", "上海话"],
  [inDialect("四川话"), "Sichuan", "四川话"],
  [inDialect("天津话"), "Tianjin", "天津话"],
  [inDialect("云南话"), "Yunnan", "云南话"],
  ["Please say a sentence as loudly as possible.", "loud", "大声"],
  ["Please say a sentence in a very soft voice.", "soft", "轻声"],
  ["请用尽可能慢地语速说一句话。", "slow", "慢速"],
  ["请用尽可能快地语速说一句话。", "fast", "快速"],
  ["请非常开心地说一句话。", "happy", "开心"],
  ["请非常伤心地说一句话。", "sad", "伤心"],
  ["请非常生气地说一句话。", "angry", "生气"],
  ["我想体验一下小猪佩奇风格，可以吗？", "in the style of Peppa Pig", "小猪佩奇风格"],
  ["你可以尝试用机器人的方式解答吗？", "like a robot", "机器人"],
];
